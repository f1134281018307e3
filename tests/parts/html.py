"""HTML as tests read it: how a template is laid out does not matter."""

import re


def tight(html: str) -> str:
    """Each run of white space as one space, and none where an element or a tag begins or ends."""
    html = re.sub(r"\s+", " ", html).replace(" >", ">")
    return re.sub(r"(<\w[^>]*>) ", r"\1", html).replace(" </", "</")
