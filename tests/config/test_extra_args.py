"""extra_args as vLLM's command line reads them."""

import pytest

from vlserve.config import extra_args


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--seed", "7"], {"--seed": "7"}),
        (["--seed=7", "--enforce-eager"], {"--seed": "7", "--enforce-eager": ""}),
        (["--pipeline_parallel_size=2"], {"--pipeline-parallel-size": "2"}),
        (["-pp", "2", "-dpl=1"], {"--pipeline-parallel-size": "2", "--data-parallel-size-local": "1"}),
        (["--seed", "7", "--seed", "8"], {"--seed": "8"}),
        (["--hf-overrides.rope_type=yarn"], {"--hf-overrides.rope_type": "yarn"}),
        (["-x", "2", "value"], {}),
    ],
)
def test_flags_have_their_long_names_and_last_values(arguments: list[str], found: dict[str, str]) -> None:
    assert extra_args.flags(arguments) == found


def test_json_object_comes_from_dotted_members_or_from_the_value() -> None:
    def read(*arguments: str) -> object:
        return extra_args.json_object(arguments, "--hf-overrides")

    assert read() == {}
    assert read("--hf-overrides", '{"a": {"b": 1}}') == {"a": {"b": 1}}
    assert read("--hf-overrides.a.b", "64K", "--hf_overrides.a.c=x") == {"a": {"b": 65536, "c": "x"}}
    assert read("--hf-overrides", "no JSON") is None
