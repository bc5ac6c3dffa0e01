"""What the preparation of VCTK has written."""

import json

SPLITS = ("train", "valid", "test", "unseen")


def load(folder):
    names = (*SPLITS, "speakers", "prepare_report")
    manifests = {name: json.loads((folder / f"{name}.json").read_text("utf-8")) for name in names}
    report, speakers = manifests.pop("prepare_report"), manifests.pop("speakers")
    return manifests, speakers, report


def ids(manifests, *names):
    return sorted(i for name in names or SPLITS for i in manifests[name])
