"""`fewshot report`: one page that shows what `fewshot eval` measures, and where the answers are right and wrong.

`gather` measures, `details` reads records, `figures` and `sheet` draw, `page` writes HTML, `folder` puts the files in place.
"""
