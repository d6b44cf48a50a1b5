"""What is no use of an op is refused in four parts, by every backend alike, before a kernel sees it."""

import numpy as np
import pytest
import torch

from facemllm.connectors import create_connector
from facemllm.core.errors import ConfigError
from facemllm.ops import (
    BlockDiagonal,
    Causal,
    Explicit,
    Padding,
    PrefixTree,
    Region,
    attention,
    merge_partials,
    partial_attention,
    prefix_attention,
    rms_norm,
    rotary,
)

X = torch.arange(96.0).view(1, 2, 6, 8) / 96
TWO = X.expand(2, -1, -1, -1)
SEEN = torch.ones(6, 6, dtype=torch.bool)


def _both(x=X, mask=None, **options):
    """Call both forms of attention, which must refuse alike."""

    def call(backend):
        with pytest.raises(ConfigError) as caught:
            partial_attention(x, x, x, mask, backend=backend, **options)
        with pytest.raises(ConfigError) as again:
            attention(x, x, x, mask, backend=backend, **options)
        assert caught.value.what == again.value.what
        raise again.value

    return call


@pytest.mark.parametrize("backend", [None, "eager", "sdpa"])
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (_both(mask=SEEN), r"masks as objects(?s:.)*a tensor \(6, 6\)(?s:.)*Explicit\(allowed\)"),
        (_both(mask=Causal), "masks as objects"),
        (_both(mask=PrefixTree.single(4, (3, 4))), "PrefixTree mask does not fit"),
        (_both(mask=PrefixTree.single(2, (1,))), r"PrefixTree mask does not fit"),
        (_both(scale=-1.0), r"cannot scale its scores(?s:.)*scale=-1\.0"),
        (_both(scale=float("nan")), r"cannot scale its scores(?s:.)*scale=nan"),
        (_both(scale=float("inf")), "cannot scale its scores"),
        (_both(scale=0), "cannot scale its scores"),
        (_both(scale="1"), "cannot scale its scores"),
        (_both(TWO, Padding(torch.ones(3, 6, dtype=torch.bool))), r"another batch(?s:.)*for \[3, 1\]"),
        (_both(mask=Padding(torch.ones(3, 6, dtype=torch.bool)) & Causal()), "another batch"),
        (_both(mask=Explicit(torch.ones(1, 3, 6, 6, dtype=torch.bool))), "of other heads"),
        (_both(mask=Region(torch.ones(3, 6, 4), 2, 3)), "another batch"),
        (_both(mask=Padding(torch.ones(1, 6))), "a bool tensor"),
        (_both(X[..., :0]), "cannot combine these shapes"),
        (_both(np.zeros((1, 2, 6, 8))), r"attention takes tensors(?s:.)*ndarray"),
    ],
)  # fmt: skip
def test_attention(call, said, backend):
    with pytest.raises(ConfigError, match=said):
        call(backend)


def test_what_is_right_at_the_edge_is_taken():
    for mask in (
        None, Causal(), Explicit(SEEN), Explicit(SEEN.expand(1, 2, 6, 6)),
        Explicit(SEEN[:1].expand(2, 1, 1, 6)),
        Padding(torch.ones(1, 6, dtype=torch.bool)), Padding(torch.ones(2, 6, dtype=torch.bool)) & Causal(),
    ):  # fmt: skip
        for scale in (None, 1, 0.5, np.float32(0.5)):
            assert attention(TWO, TWO, TWO, mask, scale=scale).isfinite().all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Causal() & SEEN, "masks as objects"),
        (lambda: BlockDiagonal((7, -1)), "lengths of 0 or more"),
        (lambda: rotary(X[..., :7], torch.arange(6)), r"rotary cannot turn(?s:.)*D even"),
        (lambda: rotary(X, torch.arange(5)), "rotary cannot turn"),
        (lambda: rotary(TWO, torch.zeros(3, 6)), "rotary cannot turn"),
        (lambda: rotary(X.long(), torch.arange(6)), "rotary cannot turn"),
        (lambda: rotary(X, [0, 1, 2, 3, 4, 5]), "rotary takes tensors"),
        (lambda: rotary(X, torch.arange(6), base=0), "no such base"),
        (lambda: rotary(X, torch.arange(6), base=float("nan")), "no such base"),
        (lambda: merge_partials([]), "nothing to merge"),
        (lambda: merge_partials(iter(())), "nothing to merge"),
        (lambda: merge_partials([(X, X[..., 0]), (X[:, :, :3], X[:, :, :3, 0])]), "cannot be merged"),
        (lambda: merge_partials([(X, X)]), "cannot be merged"),
        (lambda: merge_partials([(X,)]), "cannot be merged"),
        (lambda: rms_norm(X, torch.ones(7)), "rms_norm cannot"),
        (lambda: rms_norm(X, torch.ones(8), eps=-1.0), "rms_norm cannot"),
        (lambda: rms_norm(X.long(), torch.ones(8)), "rms_norm cannot"),
        (lambda: prefix_attention(X, X, X, [(X, X)], [(3, 4)]), "do not fit together"),
        (lambda: prefix_attention(X, X, X, [(X, X)], [(-1, 7)]), "do not lie in these rows"),
        (lambda: prefix_attention(TWO, TWO, TWO, [(X, X)], [(5, 7)]), "do not lie in these rows"),
        (lambda: prefix_attention(X, X, X, [X], [(3, 3)]), "a prefix is not"),
    ],
)
def test_other_ops(call, said):
    with pytest.raises(ConfigError, match=said):
        call()


def test_merging_takes_any_sequence():
    parts = [partial_attention(X, X[:, :, :3], X[:, :, :3]), partial_attention(X, X[:, :, 3:], X[:, :, 3:])]
    torch.testing.assert_close(merge_partials(iter(parts))[0], attention(X, X, X))


@pytest.mark.parametrize("name", ["qformer", "resampler"])
@pytest.mark.parametrize(
    "wrong", [{"num_queries": 0}, {"num_queries": -1}, {"num_queries": 2.5}, {"num_queries": True},
              {"layers": 0}, {"heads": 0}, {"in_dim": 0}]
)  # fmt: skip
def test_connectors_of_no_size(name, wrong):
    with pytest.raises(ConfigError, match=rf"'{name}' has no such size(?s:.)*{next(iter(wrong))}="):
        create_connector(
            name, **{"in_dim": 8, "out_dim": 4, "num_queries": 2, "layers": 1, "heads": 2, **wrong}
        )


def test_a_qformer_that_never_looks():
    with pytest.raises(ConfigError, match="cross_every=0"):
        create_connector("qformer", 8, 4, cross_every=0)
