#!/usr/bin/env python3
"""Builds capibox's templates as E2B templates, with their packages and sizes.

    python3 templates/e2b/build.py --list              what would be built
    python3 templates/e2b/build.py --dockerfile ID     one as an e2b.Dockerfile
    E2B_API_KEY=e2b_... python3 templates/e2b/build.py data_analysis ...
    E2B_API_KEY=e2b_... python3 templates/e2b/build.py --all

Each templates/<id>.json becomes the E2B template capibox-<id> ("_" as "-"): E2B's
code-interpreter-v1 with the template's packages on top. CPU and memory of a
microVM are fixed when it is built, so --size adds variants beside the usual one:

    python3 templates/e2b/build.py machine_learning --size 4:8192

Afterwards put the printed lines into the template's "e2b": {"variants": [...]}.
Building needs E2B's SDK (pip install e2b); --list and --dockerfile need nothing.
"""
import argparse
import glob
import json
import os
import sys

BASE_TEMPLATE = "code-interpreter-v1"
BASE_IMAGE = "e2bdev/code-interpreter:latest"
# Else the snapshot may be of a server that does not listen yet.
READY = "curl -sf http://localhost:49999/health"
# What the interpreter and its server need beside the job, measured by nobody
# but E2B: its own template has 2048 MB.
SERVER_MB = 512
# Names by which pip knows what the templates call differently.
PIP_NAMES = {"pytorch": "torch"}
TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def load(template_id: str) -> dict:
    path = os.path.join(TEMPLATES, template_id + ".json")
    if not os.path.exists(path):
        sys.exit("build.py: no template %s; there are %s" %
                 (template_id, ", ".join(all_ids())))
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def all_ids() -> list[str]:
    return sorted(os.path.basename(path)[:-len(".json")]
                  for path in glob.glob(os.path.join(TEMPLATES, "*.json")))


def packages(template: dict) -> list[str]:
    return [PIP_NAMES.get(name, name) for name in template.get("packages", [])]


def usual_size(template: dict) -> tuple[int, int]:
    """vCPU: 1 or even; MB: even (E2B's rules for builds)."""
    limits = template["limits"]
    cpus = -(-int(limits["cpu_limit_percent"]) // 100)
    memory = int(limits["memory_limit_mb"]) + SERVER_MB
    return (cpus if cpus == 1 else cpus + cpus % 2), memory + memory % 2


def parse_size(text: str) -> tuple[int, int]:
    try:
        cpus, memory = (int(part) for part in text.split(":"))
    except ValueError:
        sys.exit("build.py: --size %s: give VCPU:MB, such as 4:8192" % text)
    if not (cpus == 1 or cpus % 2 == 0 and 2 <= cpus <= 32):
        sys.exit("build.py: --size %s: vCPUs are 1 or even, up to 32" % text)
    if memory < 128 or memory % 2:
        sys.exit("build.py: --size %s: MB are even, from 128" % text)
    return cpus, memory


def variants(template: dict, sizes: list[tuple[int, int]]) -> list[dict]:
    name = "capibox-" + template["id"].replace("_", "-")
    out = []
    for cpus, memory in sizes or [usual_size(template)]:
        usual = (cpus, memory) == usual_size(template)
        out.append({"template": name if usual else
                    "%s-%d-%d" % (name, cpus, memory),
                    "vcpu": cpus, "memory_mb": memory})
    return out


def dockerfile(template: dict) -> str:
    lines = ["# e2b template create %s -d THIS_FILE --cpu-count %d "
             "--memory-mb %d -c /root/.jupyter/start-up.sh --ready-cmd '%s'" %
             (lambda v: (v["template"], v["vcpu"], v["memory_mb"], READY))(
                 variants(template, [])[0]),
             "FROM " + BASE_IMAGE]
    if packages(template):
        lines.append("RUN pip install --no-cache-dir " +
                     " ".join(packages(template)))
    return "\n".join(lines)


def build(template: dict, variant: dict) -> None:
    try:
        from e2b import Template, default_build_logger
    except ImportError:
        sys.exit("build.py: E2B's SDK is not there: pip install e2b")
    definition = Template().from_template(BASE_TEMPLATE)
    if packages(template):
        definition = definition.pip_install(packages(template))
    Template.build(definition, alias=variant["template"],
                   cpu_count=variant["vcpu"], memory_mb=variant["memory_mb"],
                   on_build_logs=default_build_logger())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--all", action="store_true", help="every template")
    parser.add_argument("--list", action="store_true",
                        help="print what would be built, as JSON lines")
    parser.add_argument("--dockerfile", metavar="ID",
                        help="print one as an e2b.Dockerfile")
    parser.add_argument("--size", action="append", default=[],
                        metavar="VCPU:MB", help="instead of the usual size")
    args = parser.parse_args()
    if args.dockerfile:
        print(dockerfile(load(args.dockerfile)))
        return
    ids = all_ids() if args.all or args.list and not args.ids else args.ids
    if not ids:
        parser.error("name templates, or --all")
    for template in map(load, ids):
        for variant in variants(template, [parse_size(s) for s in args.size]):
            if args.list:
                print(json.dumps({"id": template["id"], **variant,
                                  "from": BASE_TEMPLATE,
                                  "packages": packages(template)}))
                continue
            build(template, variant)
            print("built; for templates/%s.json: %s" %
                  (template["id"], json.dumps(variant)))


main()
