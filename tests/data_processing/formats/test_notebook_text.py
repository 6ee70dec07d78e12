"""The cells of notebooks."""

from typing import Any

import pytest

from data_processing.formats.notebook_text import notebook_cells


def test_cells_come_in_order_code_in_fences_without_what_it_printed():
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Title\n", "text\n"]},
            {"cell_type": "code", "source": "x = 1\nprint(x)", "outputs": [{"text": "PRINTED"}]},
            {"cell_type": "raw", "source": "RAW"},
            {"cell_type": "code", "source": []},
            {"cell_type": "code", "source": "s = '''\n````\n'''"},
        ],
        "metadata": {"language_info": {"name": "Python"}},
    }
    assert notebook_cells(notebook) == [
        "# Title\ntext",
        "```python\nx = 1\nprint(x)\n```",
        "`````python\ns = '''\n````\n'''\n`````",
    ]


def test_notebooks_of_the_third_format_are_read():
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Head"]},
        {"cell_type": "code", "language": "julia", "input": ["x\n", "y"]},
    ]
    assert notebook_cells({"worksheets": [{"cells": cells}, 1]}) == ["## Head", "```julia\nx\ny\n```"]


@pytest.mark.parametrize(
    ("notebook", "cells"),
    [
        ([], None),
        ({}, None),
        ({"cells": {}}, None),
        ({"cells": []}, []),
        ({"cells": [1, {}, {"cell_type": "code"}, {"cell_type": "markdown", "source": 5}]}, []),
        ({"cells": [{"cell_type": "code", "source": [1, "a"]}], "metadata": []}, ["```\na\n```"]),
        (
            {
                "cells": [{"cell_type": "code", "source": "a"}],
                "metadata": {"kernelspec": {"language": "C++ `x\n"}},
            },
            ["```c++x\na\n```"],
        ),
        ({"cells": [{"cell_type": "heading", "level": "x", "source": "a"}]}, ["# a"]),
    ],
)
def test_what_is_not_as_it_should_be_is_passed_over(notebook: Any, cells: list[str] | None):
    assert notebook_cells(notebook) == cells
