"""Listings of the sandbox OSS: the store against a plain model, and paging through the official client."""

from __future__ import annotations

import tempfile
from pathlib import Path

import alibabacloud_oss_v2 as oss
import pytest
from alibabacloud_oss_v2 import exceptions
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.cloud.oss.store import Bucket, ObjectProperties, ObjectStore

names = st.text(st.sampled_from("ab/é\U0001f600"), min_size=1, max_size=5)
fragments = st.text(st.sampled_from("ab/é"), max_size=3)
delimiters = st.sampled_from(["", "/", "a", "b/"])


def expected_page(
    keys: set[str], prefix: str, delimiter: str, after: str, limit: int
) -> tuple[list[str], list[str], bool]:
    """What OSS documents: keys behind the marker, rolled up at the delimiter, in order, cut at the limit."""
    entries: dict[str, bool] = {}
    for key in sorted(keys, key=str.encode):
        if not key.startswith(prefix) or key.encode() <= after.encode():
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = key if cut < 0 else key[: cut + len(delimiter)]
        if cut >= 0 and entry == after:
            continue  # rolled up on an earlier page
        entries[entry] = cut >= 0
    page = list(entries)[:limit]
    return [e for e in page if not entries[e]], [e for e in page if entries[e]], len(entries) > limit


@settings(max_examples=300, deadline=None)
@given(
    keys=st.sets(names, max_size=12),
    prefix=fragments,
    delimiter=delimiters,
    after=fragments,
    limit=st.integers(1, 5),
)
def test_a_page_of_a_listing_is_what_the_documented_rules_give(
    keys: set[str], prefix: str, delimiter: str, after: str, limit: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = ObjectStore(Path(directory))
        store.create_bucket(Bucket("examplebucket", 0.0))
        with store.receive() as writer:
            blob = writer.finish()
            for key in keys:
                store.put_object("examplebucket", key, blob, ObjectProperties())
        page = store.list_objects("examplebucket", prefix, delimiter, after, limit)
        found = ([item.key for item in page.items], list(page.prefixes), page.next is not None)
        assert found == expected_page(keys, prefix, delimiter, after, limit)
        store.close()


@settings(max_examples=100, deadline=None)
@given(keys=st.sets(names, max_size=12), delimiter=delimiters, limit=st.integers(1, 4))
def test_following_the_markers_visits_everything_once(keys: set[str], delimiter: str, limit: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = ObjectStore(Path(directory))
        store.create_bucket(Bucket("examplebucket", 0.0, versioning="Enabled"))
        written = []
        for key in [*keys, *keys]:
            with store.receive() as writer:
                version = store.put_object("examplebucket", key, writer.finish(), ObjectProperties())
            written.append((key, version.version_id))
        visited: list[str] = []
        after = ""
        while True:
            page = store.list_objects("examplebucket", "", delimiter, after, limit)
            visited += [item.key for item in page.items] + list(page.prefixes)
            if page.next is None:
                break
            after = page.next
        objects, prefixes, _ = expected_page(keys, "", delimiter, "", 1000)
        assert sorted(visited) == sorted(objects + prefixes)
        versions: list[tuple[str, str]] = []
        after = after_id = ""
        while True:
            listing = store.list_versions("examplebucket", "", "", after, after_id, limit)
            versions += [(item.key, item.version_id) for item in listing.items]
            if listing.next is None:
                break
            after, after_id = listing.next, listing.next_id
        assert len(versions) == len(set(versions))
        assert set(versions) == set(written)
        assert [key for key, _ in versions] == sorted((key for key, _ in written), key=str.encode)
        store.close()


def test_all_three_listings_page_through_the_official_client(client: oss.Client, bucket: str) -> None:
    keys = [f"models/tf_serving/modelA/{number:02d}/ü {number}" for number in range(25)]
    for key in keys:
        client.put_object(oss.PutObjectRequest(bucket=bucket, key=key, body=b"x"))
    v1 = [
        entry.key
        for page in client.list_objects_paginator(limit=7).iter_page(oss.ListObjectsRequest(bucket=bucket))
        for entry in page.contents
    ]
    assert v1 == keys
    v2 = [
        prefix.prefix
        for page in client.list_objects_v2_paginator(limit=4).iter_page(
            oss.ListObjectsV2Request(bucket=bucket, prefix="models/tf_serving/modelA/", delimiter="/")
        )
        for prefix in page.common_prefixes
    ]
    assert v2 == [f"models/tf_serving/modelA/{number:02d}/" for number in range(25)]
    versions = [
        entry.key
        for page in client.list_object_versions_paginator(limit=6).iter_page(
            oss.ListObjectVersionsRequest(bucket=bucket)
        )
        for entry in page.version
    ]
    assert versions == keys


def test_an_entry_of_a_listing_has_what_is_needed_to_compare_files(client: oss.Client, bucket: str) -> None:
    put = client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=b"12345"))
    entry = client.list_objects_v2(oss.ListObjectsV2Request(bucket=bucket, fetch_owner=True)).contents[0]
    assert (entry.key, entry.size, entry.etag, entry.object_type) == ("k", 5, put.etag, "Normal")
    assert entry.storage_class == "Standard"
    assert entry.owner.id
    assert entry.last_modified.year > 2000


def test_start_after_skips_and_key_count_counts(client: oss.Client, bucket: str) -> None:
    for key in ("a", "b", "c/1", "c/2"):
        client.put_object(oss.PutObjectRequest(bucket=bucket, key=key, body=b"x"))
    page = client.list_objects_v2(oss.ListObjectsV2Request(bucket=bucket, start_after="a", delimiter="/"))
    assert [entry.key for entry in page.contents] == ["b"]
    assert (page.key_count, page.is_truncated) == (2, False)


@pytest.mark.parametrize("number", [1001, -1])
def test_a_page_size_out_of_bounds_is_refused(client: oss.Client, bucket: str, number: int) -> None:
    with pytest.raises(exceptions.OperationError) as error:
        client.list_objects_v2(oss.ListObjectsV2Request(bucket=bucket, max_keys=number))
    assert error.value.unwrap().code == "InvalidArgument"


def test_a_made_up_continuation_token_is_refused(client: oss.Client, bucket: str) -> None:
    with pytest.raises(exceptions.OperationError) as error:
        client.list_objects_v2(oss.ListObjectsV2Request(bucket=bucket, continuation_token="\xff"))
    assert error.value.unwrap().code == "InvalidArgument"


def test_listing_a_bucket_that_does_not_exist_says_so(client: oss.Client) -> None:
    with pytest.raises(exceptions.OperationError) as error:
        client.list_objects_v2(oss.ListObjectsV2Request(bucket="nobody-made-this"))
    assert (error.value.unwrap().status_code, error.value.unwrap().code) == (404, "NoSuchBucket")
