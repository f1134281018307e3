"""The programs that a project's scripts seem to need on this machine."""

from deployer.plan import Plan
from deployer.releases.isolation import lacks
from projects.commands.build import tools_of_script


def missing_tools(plan: Plan) -> list[str]:
    """Those that no build would find: a guess, by the words of the scripts."""
    install = tools_of_script(plan.install_script)
    wanted = dict.fromkeys([*install, *tools_of_script(plan.build_script)])
    return [tool for tool in wanted if lacks(tool, plan.variables_for("build"))]
