"""Releases in an object store, by settings alone."""

import io
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
import zstandard
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from deployer.engine.routines import carry_out
from deployer.models import Deployment, Release
from deployer.releases.archives import Archive, StoreError
from deployer.releases.packages import store_package
from deployer.releases.store import prune
from deployer.settings import storage
from projects.models import Project
from tests.deployer.test_packages import entry, packed, tar_of
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.proxy import Proxy
from tests.parts.s3 import BUCKET, s3_server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]


@pytest.fixture
def s3(settings) -> Iterator[str]:
    """The address of the store that the settings name."""
    with s3_server() as url:
        wanted = storage(f"s3://{BUCKET}/shop?endpoint_url={url}&region_name=us-east-1")
        settings.STORAGES = settings.STORAGES | {"default": wanted}
        yield url


@pytest.fixture
def project(git_repo, tmp_path: Path) -> Project:
    (tmp_path / "restart.sh").write_text("echo fine")
    return make_project(
        git_url=git_repo.url,
        deploy_path=str(tmp_path / "shop"),
        deploy_script_path=str(tmp_path / "restart.sh"),
        keep_releases=1,
    )


def stored(url: str) -> list[str]:
    listed = boto3.client("s3", endpoint_url=url, region_name="us-east-1").list_objects_v2(Bucket=BUCKET)
    return sorted(row["Key"].rpartition("/")[2] for row in listed.get("Contents", []))


def open_files() -> list[str]:
    """Where the open files of this process lie; one without a name has a number behind a #."""
    return [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]


def test_releases_are_built_sent_and_pruned_there(s3, project, sshd, git_repo, queue_server, tmp_path, settings):
    versions = []
    group = make_group(make_server(sshd))
    for text in ("one", "two", "three"):
        git_repo.commit({"version": text, "big": "x" * 10_000})
        deployment = make_deployment(project, group)
        assert carry_out(deployment.pk)
        deployment.refresh_from_db()
        assert deployment.status == "success", deployment.error_message
        assert (tmp_path / "shop" / "current" / "version").read_text() == text
        versions.append(str(deployment.release))
    names = [f"{version}.{kind}" for version in versions for kind in ("manifest.zst", "tar.zst")]
    assert stored(s3) == sorted(names)
    assert not list(settings.MEDIA_ROOT.glob(f"**/{versions[0]}*"))
    Deployment.objects.filter(release__version=versions[0]).delete()  # nothing remembers that it was previous
    assert [str(release) for release in prune()] == [versions[0]]
    assert stored(s3) == sorted(names[2:])
    back = make_deployment(project, group, release=Release.objects.get(version=versions[1]))
    assert carry_out(back.pk)
    assert (tmp_path / "shop" / "current" / "version").read_text() == "two"


def test_a_store_that_does_not_answer_is_named(project, sshd, queue_server, settings, monkeypatch, admin_client):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    wanted = storage(f"s3://{BUCKET}?endpoint_url=http://127.0.0.1:9&region_name=us-east-1")
    settings.STORAGES = settings.STORAGES | {"default": wanted}
    deployment = make_deployment(project, make_group(make_server(sshd)))
    carry_out(deployment.pk)
    deployment.refresh_from_db()
    assert deployment.status == "failed"
    assert "The store of releases cannot be used" in deployment.error_message
    assert "DEPLOYER_STORAGE" in deployment.error_message
    assert deployment.building_at is None  # not after a build that nothing could keep
    with pytest.raises(StoreError):
        store_package(project, "shop.tar", io.BytesIO(packed(".tar")))
    assert not Release.objects.exists()


def test_a_store_behind_tls_that_takes_no_chunks_is_used(project, settings, tmp_path):
    with s3_server(tmp_path) as url:
        rest = f"addressing_style=path&verify={tmp_path / 's3.crt'}&region_name=us-east-1"
        settings.STORAGES = settings.STORAGES | {"default": storage(f"s3://{BUCKET}/shop?endpoint_url={url}&{rest}")}
        noise = random.Random(1).randbytes(20_000_000)  # in several parts
        large = store_package(project, "shop.tar", io.BytesIO(tar_of((entry("noise"), noise))))
        store_package(project, "shop.tar", io.BytesIO(packed(".tar")))
        archive = Archive(large)
        try:
            stream = zstandard.ZstdDecompressor().stream_reader(archive.whole(["zstd"]).path.read_bytes())
            assert noise in stream.read()
        finally:
            archive.close()


def test_a_large_archive_is_fetched_into_the_data_folder_not_into_memory(s3, settings):
    store = storages["default"]
    name = store.save("large", ContentFile(bytes(9_000_000)))
    with store.open(name) as file:
        assert file.read(1) == b"\0"
        assert any(place.startswith(str(settings.DATA_DIR / "#")) for place in open_files())


def test_a_download_that_breaks_off_each_time_is_named(s3, project, sshd, queue_server, settings):
    noise = random.Random(1).randbytes(2_000_000)
    release = store_package(project, "shop.tar", io.BytesIO(tar_of((entry("noise"), noise))))
    proxy = Proxy(int(s3.rpartition(":")[2]))
    proxy.strike_next("reset", *[300_000] * 50)
    wanted = storage(f"s3://{BUCKET}/shop?endpoint_url=http://127.0.0.1:{proxy.port}&region_name=us-east-1")
    settings.STORAGES = settings.STORAGES | {"default": wanted}
    deployment = make_deployment(project, make_group(make_server(sshd)), release=release)
    carry_out(deployment.pk)
    proxy.close()
    deployment.refresh_from_db()
    assert deployment.status == "failed"
    assert "The store of releases cannot be used" in deployment.error_message
    assert "Max Retries" not in deployment.error_message


@pytest.mark.every_case
def test_what_could_not_be_pruned_goes_the_next_time(s3, project, settings, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    release = store_package(project, "shop.tar", io.BytesIO(packed(".tar")))
    Release.objects.update(created_at=timezone.now() - timedelta(days=9_999))
    here, away = settings.STORAGES, storage(f"s3://{BUCKET}/shop?endpoint_url=http://127.0.0.1:9&region_name=us-east-1")
    settings.STORAGES = here | {"default": away}
    with pytest.raises(StoreError):
        prune()
    assert len(stored(s3)) == 2
    settings.STORAGES = here
    assert prune() == [release]
    assert stored(s3) == []


@pytest.mark.parametrize("url", ["s3://", "http://bucket", "bucket", "s3://bucket?secret_key=x", "s3:///folder"])
def test_a_wrong_store_stops_the_start_with_a_sentence(url):
    with pytest.raises(ImproperlyConfigured, match="DEPLOYER_STORAGE must be s3://BUCKET/FOLDER"):
        storage(url)


@pytest.mark.parametrize(
    "wrong", ["endpoint_url=127.0.0.1:9000", "addressing_style=none", "verify=no", "verify=", "region_name="]
)
def test_a_wrong_setting_of_the_store_stops_the_start_with_its_name(wrong):
    with pytest.raises(ImproperlyConfigured, match=f"{wrong.partition('=')[0]} in DEPLOYER_STORAGE must be "):
        storage(f"s3://bucket/folder?{wrong}")
