"""LFW's people and pairs, View 1 and View 2, CALFW and CPLFW."""

import pytest

from facemllm.core.errors import DatasetError
from facemllm.data import read_dataset, read_pairs


@pytest.fixture
def lfw(tmp_path, forge):
    """LFW with the lists of both views; two folds of two pairs of each kind, instead of ten of 300."""
    root = tmp_path / "lfw"
    people = [f"Person_{letter}" for letter in "ABCDEFGH"]
    for person in people:
        for number in (1, 2):
            forge.picture(root / person / f"{person}_{number:04d}.jpg")
    a, b, c, d, e, f, g, h = people
    forge.lines(root / "peopleDevTrain.txt", "4", *(f"{person}\t2" for person in (a, b, c, d)))
    forge.lines(root / "peopleDevTest.txt", "2", f"{e}\t2", f"{f}\t2")
    forge.lines(
        root / "people.txt",
        "2",
        "4",
        *(f"{p}\t2" for p in (a, b, c, d)),
        "3",
        *(f"{p}\t2" for p in (e, f, g)),
    )
    forge.lines(
        root / "pairsDevTrain.txt", "2", f"{a}\t1\t2", f"{b}\t1\t2", f"{a}\t1\t{b}\t2", f"{c}\t1\t{d}\t1"
    )
    forge.lines(root / "pairsDevTest.txt", "1", f"{e}\t1\t2", f"{e}\t1\t{f}\t2")
    first = [f"{a}\t1\t2", f"{b}\t1\t2", f"{a}\t1\t{b}\t2", f"{c}\t1\t{d}\t1"]
    second = [f"{e}\t1\t2", f"{f}\t1\t2", f"{e}\t1\t{f}\t2", f"{g}\t1\t{h}\t1"]
    forge.lines(root / "pairs.txt", "2\t2", *first, *second)
    return root


def test_view_1_people_and_pairs(lfw):
    train = read_dataset("lfw", lfw, "dev-train", view=1)
    assert {sample.identity for sample in train} == {f"Person_{letter}" for letter in "ABCD"}
    assert len(read_dataset("lfw", lfw, "dev-test", view=1)) == 4
    pairs = read_pairs("lfw", lfw, "dev-train", strict=True)
    assert [pair.same for pair in pairs] == [True, True, False, False]
    assert pairs[2].first.id == "Person_A/Person_A_0001.jpg"
    assert pairs[2].second.id == "Person_B/Person_B_0002.jpg"
    assert [pair.fold for pair in pairs] == [None] * 4


def test_view_2_has_folds_of_people_and_of_pairs(lfw):
    people = read_dataset("lfw", lfw, view=2)
    assert {sample.identity: sample.fold for sample in people}["Person_E"] == 2
    assert len(people) == 14
    assert {sample.split for sample in people} == {"fold1", "fold2"}
    pairs = read_pairs("lfw", lfw, "view2", strict=True)
    assert [pair.fold for pair in pairs] == [1] * 4 + [2] * 4
    assert [pair.same for pair in pairs] == [True, True, False, False] * 2


def test_all_pairs_are_those_of_every_list(lfw):
    assert len(read_pairs("lfw", lfw)) == 4 + 2 + 8
    (lfw / "pairs.txt").unlink()
    assert len(read_pairs("lfw", lfw)) == 4 + 2
    with pytest.raises(DatasetError, match="no usable pair in split 'view2'"):
        read_pairs("lfw", lfw, "view2")


def test_pairs_broken(lfw, forge):
    head, *rows = (lfw / "pairs.txt").read_text().splitlines()
    forge.lines(lfw / "pairs.txt", head, "Person_A\t1\t9", "Person_A\tx\t2", "Person_A", *rows[3:])
    pairs = read_pairs("lfw", lfw, "view2")
    assert len(pairs) == 5
    assert pairs.skipped.reasons == {"image not found": 1, "expected name, i, j or name, i, name, j": 2}
    assert [pair.fold for pair in pairs] == [1, 2, 2, 2, 2], "a bad pair does not shift the folds"
    with pytest.raises(DatasetError, match="image not found") as caught:
        read_pairs("lfw", lfw, "view2", strict=True)
    assert "pairs.txt, line 2" in caught.value.given


def use(root, name):
    if name == "pairs.txt":
        return read_pairs("lfw", root, "view2")
    return read_dataset("lfw", root, view=1 if "Dev" in name else 2)


@pytest.mark.parametrize("name", ["pairs.txt", "people.txt", "peopleDevTrain.txt"])
def test_lists_that_are_cut_off_are_refused(lfw, name):
    path = lfw / name
    whole = path.read_text()
    path.write_text("\n".join(whole.splitlines()[:-1]) + "\n")
    with pytest.raises(DatasetError, match="is not complete"):
        use(lfw, name)
    path.write_text("names\n" + whole)
    with pytest.raises(DatasetError, match=r"lacks a count|does not begin with its counts"):
        use(lfw, name)


def test_a_view_without_its_lists_is_refused(lfw):
    (lfw / "people.txt").unlink()
    with pytest.raises(DatasetError, match="cannot find the lists of people"):
        read_dataset("lfw", lfw, view=2)


@pytest.mark.parametrize("name", ["calfw", "cplfw"])
def test_consecutive_lines_are_pairs(layout, name):
    pairs = read_pairs(name, layout(name), strict=True)
    assert [pair.same for pair in pairs] == [True] * 4 + [False] * 3
    assert [pair.fold for pair in pairs] == [1, 2, 3, 4, None, None, None]
    assert pairs[4].first.identity == "Person_0"
    assert pairs[4].second.identity == "Person_1"


def test_variant_pairs_broken(layout, forge):
    root = layout("calfw")
    rows = ["Person_0_0001.jpg 1", "Person_0_0002.jpg 2", "Person_0_0001.jpg 0", "Person_0_0002.jpg 0"]
    rows += ["Person_0_0001.jpg 3", "Person_1_0001.jpg 3", "Person_0_0001.jpg 0", "Person_9_0002.jpg 0"]
    rows += [
        "Person.jpg 0",
        "Person_1_0001.jpg 0",
        "Person_1_0001.jpg x",
        "Person_1_0002.jpg x",
        "Person_2_0001.jpg 1",
    ]
    forge.append(root / "pairs_CALFW.txt", *rows)
    pairs = read_pairs("calfw", root)
    assert len(pairs) == 7
    assert pairs.skipped.reasons == {
        "two consecutive lines do not have one tag": 2,
        "tag contradicts the names": 2,
        "image not found": 1,
        "name is not [person]_[number].jpg": 1,
        "has no partner": 1,
    }


def test_unknown_names_and_splits_of_pairs(lfw):
    with pytest.raises(DatasetError, match="no pairs of a split 'view3'"):
        read_pairs("lfw", lfw, "view3")
    with pytest.raises(DatasetError, match="fairface has no pairs"):
        read_pairs("fairface", lfw)
