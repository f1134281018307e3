"""What happens to the machines: their parts are killed, frozen and started again, in an order that a seed gives."""

import os
import random
import signal
import threading
import time
from collections import Counter

from tests.chaos.world import Site, World
from tests.parts.programs import kill_all

#: Seconds between two of them, at most, and for which something is away or frozen.
PAUSE, AWAY, FROZEN = 6.0, 4.0, 50.0
#: Seconds after which what is gone is started again.
AGAIN = 1.0


class Storm(threading.Thread):
    """Does something to a part of the world again and again until `calm`. ``counts`` says how often what was done."""

    def __init__(self, world: World, seed: int) -> None:
        super().__init__(name="the storm", daemon=True)
        self.counts: Counter[str] = Counter()
        self.errors: list[BaseException] = []
        self._world = world
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._frozen: dict[int, float] = {}
        self._keeping = threading.Thread(target=self._keep, name="the supervisor", daemon=True)
        self._is_calm = threading.Event()

    def start(self) -> None:
        """Start what is to run, and then the storm."""
        for site in self._world.sites:
            site.start_what_is_gone()
        self._keeping.start()
        super().start()

    def run(self) -> None:
        """Until it is over."""
        acts = [
            *([self._kill_horse] * 5 + [self._kill_worker] * 3 + [self._freeze] * 2),
            *([self._kill_web] * 2 + [self._cut_queue, self._cut_database, self._cut_power]),
        ]
        while not self._over.wait(self._chance.uniform(0.5, PAUSE)):
            try:
                self._chance.choice(acts)()
            except OSError:
                continue  # it had just ended
            except BaseException as error:  # noqa: BLE001 (told at the end)
                self.errors.append(error)

    def calm(self) -> None:
        """Let nothing happen any more; what is frozen goes on."""
        self._over.set()
        self.join()
        self._thaw(time.monotonic() + FROZEN)

    def end(self) -> None:
        """Start nothing again either."""
        self._is_calm.set()
        self._keeping.join()

    def _keep(self) -> None:
        while not self._is_calm.wait(AGAIN):
            self._thaw(time.monotonic())
            for site in self._world.sites:
                site.start_what_is_gone()

    def _thaw(self, now: float) -> None:
        for pid in [pid for pid, until in self._frozen.copy().items() if until <= now]:
            del self._frozen[pid]
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue

    def _site(self) -> Site:
        return self._chance.choice(self._world.sites)

    def _horses(self) -> list[int]:
        return sorted(pid for site in self._world.sites for part in [*site.workers] for pid in part.horses)

    def _kill_horse(self) -> None:
        if horses := self._horses():
            kill_all([self._chance.choice(horses)])
            self.counts["a worker at work killed"] += 1

    def _kill_worker(self) -> None:
        if workers := [*self._site().workers]:
            self._chance.choice(workers).end()
            self.counts["a worker killed with all it has started"] += 1

    def _freeze(self) -> None:
        if horses := [pid for pid in self._horses() if pid not in self._frozen]:
            pid = self._chance.choice(horses)
            self._frozen[pid] = time.monotonic() + self._chance.uniform(5, FROZEN)
            os.kill(pid, signal.SIGSTOP)
            self.counts["a worker at work frozen"] += 1

    def _kill_web(self) -> None:
        if web := self._site().web:
            web.end()
            self.counts["pages killed"] += 1

    def _cut_queue(self) -> None:
        self._world.queue.kill()
        time.sleep(self._chance.uniform(0, AWAY))
        self._world.queue.start()
        self.counts["queue killed"] += 1

    def _cut_database(self) -> None:
        self._world.postgres.stop()
        time.sleep(self._chance.uniform(0, AWAY))
        self._world.postgres.start()
        self.counts["database killed"] += 1

    def _cut_power(self) -> None:
        self._site().kill()
        self.counts["a whole machine killed"] += 1
