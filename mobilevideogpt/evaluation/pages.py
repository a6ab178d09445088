"""The templates of the pages; what they share is in page.html.j2 and macros.html.j2."""

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def template(name: str) -> Template:
    """Return a template of this folder. Texts are escaped, and an unknown name is an error."""
    environment = Environment(
        loader=PackageLoader("mobilevideogpt.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
