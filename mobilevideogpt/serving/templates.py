"""The templates of this folder, which may extend those of the evaluation."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template


def template(name: str) -> Template:
    """Return a template of this folder, which may extend one of the evaluation. Texts are escaped."""
    rooms = ("mobilevideogpt.serving", "mobilevideogpt.evaluation")
    return Environment(
        loader=ChoiceLoader([PackageLoader(room, ".") for room in rooms]),
        autoescape=not name.endswith(".md.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)
