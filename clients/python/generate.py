"""Writes src/yard_client/_models.py from the OpenAPI document of a running server.

    YARD_TOKEN=… python generate.py http://127.0.0.1:8920

Needs datamodel-code-generator. The end-to-end tests do the same and compare, so that there is no second truth.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

from datamodel_code_generator import DataModelType, InputFileType, PythonVersion, generate
from datamodel_code_generator.format import Formatter

TARGET = Path(__file__).parent / "src" / "yard_client" / "_models.py"
HEADER = '"""The documents of the API. Generated from its OpenAPI document by generate.py: do not edit."""'


def models(document: dict) -> str:
    """The module's text. Of the document only the schemas count."""
    schemas = {"openapi": "3.1.0", "info": {"title": "yard", "version": "1"}, "paths": {}}
    schemas["components"] = {"schemas": document["components"]["schemas"]}
    text = generate(
        json.dumps(schemas),
        input_file_type=InputFileType.OpenAPI,
        output_model_type=DataModelType.TypingTypedDict,
        target_python_version=PythonVersion.PY_310,
        use_schema_description=True,
        use_field_description=True,
        use_standard_collections=True,
        use_union_operator=True,
        disable_timestamp=True,
        custom_file_header=HEADER,
        formatters=[Formatter.BUILTIN],
    )
    return str(text)


if __name__ == "__main__":
    server = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8920"
    headers = {"Authorization": f"Bearer {os.environ['YARD_TOKEN']}"} if "YARD_TOKEN" in os.environ else {}
    with urllib.request.urlopen(urllib.request.Request(f"{server}/openapi.json", headers=headers)) as answer:
        TARGET.write_text(models(json.load(answer)))
    print(f"wrote {TARGET}")
