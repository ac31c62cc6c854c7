"""What tests of several rooms share."""

from collections.abc import Callable, Sequence

import pandas as pd
import pytest

from passk_lab.metrics import pass_at_k


def refuses(message: str, function: Callable, *args, error=ValueError, **kwargs) -> None:
    """The call fails, and its message matches."""
    with pytest.raises(error, match=message):
        function(*args, **kwargs)


def refusals(*cases: tuple[Callable[[], object], str]) -> Callable:
    """A test of calls that fail, one a case, each with its message."""

    @pytest.mark.parametrize(("call", "message"), cases)
    def test(call, message):
        refuses(message, call)

    return test


def letter_tokenizer(letters: Sequence[str] = (), extra=(), chat_template=None, **special):
    """One token a letter, all bytes unless letters are given; the special tokens come first."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = letters or sorted(pre_tokenizers.ByteLevel.alphabet())
    first = dict.fromkeys([*special.values(), *extra])  # one may serve twice
    vocabulary = {token: number for number, token in enumerate([*first, *letters])}
    made = Tokenizer(models.BPE(vocabulary, [], unk_token=special.get("unk_token")))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, extra_special_tokens=list(extra), **special
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def rollout_table(rows):
    return pd.DataFrame(rows, columns=["problem_id", "sample_id", "correct", "answer"])


def score_table(rows):
    names = ["problem_id", "sample_id", "demo_id", "logprob", "logprob_given_demo"]
    return pd.DataFrame(rows, columns=names)


def scored_rollouts(problems, names):
    """Scores and rollouts of problems whose first three modes are right, the fourth wrong.

    A problem is the mode of each sample, the modes' log-probabilities, those [mode, mode shown]
    after a demonstration, and the samples that are shown.
    """
    rollouts, scores = [], []
    for number, (drawn, alone, given, shown) in enumerate(problems):
        name = f"p{number}"
        for i, mode in enumerate(drawn):
            rollouts.append((name, i, mode < 3, names[mode]))
            scores += [(name, i, j, alone[mode], given[mode, drawn[j]]) for j in shown]
    return score_table(scores), rollout_table(rollouts)


def mean_pass_at_k(table: pd.DataFrame, k: int) -> float:
    """Give pass@k, the mean over problems, as programs report it."""
    counts = table.groupby("problem_id")["correct"].agg(["size", "sum"])
    return float(pass_at_k(counts["size"], counts["sum"], k).mean())
