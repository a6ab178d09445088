"""Clips that are one recording by their frames, whatever their names and bytes. Standard library only.

The frames are compared where clips are decoded (`mobilevideogpt.verification.duplicates`). Here it is decided which
clips the split keeps together.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from mobilevideogpt.annotations.findings import Code, Findings, first_of
from mobilevideogpt.annotations.groups import DisjointSets
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json

# Copies of one recording are few. More clips that look alike, each like the next, are rather one scene by chance.
FEW_COPIES = 10
MOST_COPIES = 0.2  # of all clips


def read_pairs(path: str | Path) -> list[dict]:
    """Read ``duplicates.json``: the ``clips``, ``distance``, ``mirrored`` and ``same_recording`` of each pair.

    Raises:
        InputError: If the file is missing or malformed.
    """
    remedy = "run `snakemake --forcerun find_duplicates annotations`"
    pairs = read_json(path, remedy)
    keys = {"clips", "distance", "mirrored", "same_recording"}
    if not isinstance(pairs, list) or not all(isinstance(pair, dict) and keys <= pair.keys() for pair in pairs):
        raise InputError(f"{path}: is not a list of pairs of clips; {remedy}")
    return pairs


def same_by_frames(
    pairs: Iterable[Mapping], paths: Collection[str], known: Iterable[Collection[str]], findings: Findings
) -> list[list[str]]:
    """Return the clips that are one recording, in lists.

    Clips are joined in chains. A chain of more than `FEW_COPIES` clips and `MOST_COPIES` of all is not joined, which a
    notice says.

    Args:
        pairs: See `read_pairs`.
        paths: The clips in use.
        known: Clips that are known to be one recording; they are not listed again.
        findings: Collects the pairs that are joined, and the notice.
    """
    paths = set(paths)
    sets, equal = DisjointSets(), {path: i for i, clips in enumerate(known) for path in clips}
    alike = [pair for pair in pairs if pair["same_recording"] and paths.issuperset(pair["clips"])]
    for one, other in (pair["clips"] for pair in alike):
        sets.join(one, other)
    chains = defaultdict(list)
    for path in sorted({path for pair in alike for path in pair["clips"]}):
        chains[sets.root(path)].append(path)
    limit = max(FEW_COPIES, MOST_COPIES * len(paths))
    joined = {root: chain for root, chain in chains.items() if len(chain) <= limit}
    for chain in (chain for root, chain in chains.items() if root not in joined):
        findings.notice(Code.TOO_MANY_ALIKE, count=len(chain), clips=len(paths), examples=first_of(chain, 3))
    for pair in alike:
        one, other = pair["clips"]
        if sets.root(one) in joined and (one not in equal or equal[one] != equal.get(other)):
            mirrored = ", mirrored" * pair["mirrored"]
            findings.add(Code.SAME_FRAMES, f"{one} = {other} ({pair['distance']:g} bits of 63 apart{mirrored})")
    return list(joined.values())
