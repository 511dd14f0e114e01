"""`segmentation report`: one page that shows what `segmentation eval` measures, and what was found and missed in pictures.

`gather` measures, `details` reads counts, `figures` draws, `panels` makes pictures of episodes, `page` writes HTML. What all pages share
is in `kinshot.studies.report`.
"""
