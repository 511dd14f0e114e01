"""`ssl report`: one page that shows how a run went and what it has learned.

`curves` reads the records, `looked` embeds samples, `gauges`, `embedding_map`, `neighbors`, `clusters` and `retrieval` say what they show,
`page` and `write` make the file.
"""
