"""Nothing that stands on the queue is executed by being read: the library's own form of jobs, pickle, is taken away."""

from rq.serializers import DefaultSerializer, JSONSerializer


def take_pickle_away() -> None:
    """Have the library read and write JSON wherever no form is named: its pages and its upkeep name none.

    Reading pickle means to run what it says, for whoever can write to the queue.
    """
    DefaultSerializer.dumps = staticmethod(JSONSerializer.dumps)
    DefaultSerializer.loads = staticmethod(JSONSerializer.loads)
