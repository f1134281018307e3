import pytest

from tests.parts.package import Package


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The wheel and the archive of the source, of this very tree."""
    return Package(tmp_path_factory.mktemp("package"))
