"""Validates every YAML document of standard input against the schemas of these Kubernetes versions, strictly.

Arguments: kinds that Kubernetes itself does not have, each as apiVersion/kind, then `--`, then versions.
Prints one line per mistake; exit code 1 where there is any. As kubectl and the API server do, it takes a document
with a key that stands twice, or with a field that is not known, for a mistake.
"""

import sys

import kubernetes_validate
import yaml


class Loader(yaml.SafeLoader):
    """YAML 1.1 without duplicate keys."""


def mapping(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = sorted({str(key) for key in keys if keys.count(key) > 1})
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"keys stand twice: {twice}", node.start_mark)
    return loader.construct_mapping(node, deep)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def main():
    split = sys.argv.index("--")
    foreign, versions = set(sys.argv[1:split]), sys.argv[split + 1 :]
    documents = [one for one in yaml.load_all(sys.stdin.read(), Loader=Loader) if one is not None]
    if not documents:
        print("there is no document")
        return 1
    mistakes = 0
    for document in documents:
        kind = f"{document.get('apiVersion')}/{document.get('kind')}"
        name = document.get("metadata", {}).get("name")
        if kind in foreign:
            continue
        for version in versions:
            try:
                # An older version's schemas would be taken for those of one that is not there.
                validated = kubernetes_validate.validate(document, version, strict=True)
                if validated != version:
                    raise ValueError(f"there are only the schemas of {validated}")
            except kubernetes_validate.ValidationError as error:
                path = ".".join(str(step) for step in error.path)
                print(f"{kind} {name}, Kubernetes {version}: {path}: {error.message[:300]}")
                mistakes += 1
            except kubernetes_validate.SchemaNotFoundError as error:
                print(f"{kind} {name}, Kubernetes {version}: {error.message}")
                mistakes += 1
    return 1 if mistakes else 0


sys.exit(main())
