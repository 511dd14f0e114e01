"""`fewshot retrieve`: how well the features of encoders bring samples of one kind together, query by query.

`sides` says what is queried, what is found and who is kin; `answers` ranks and measures one model, `pairs` verifies; `rows` makes figures,
intervals and differences; `study` is the whole. `shown` picks queries with what they found, for the `page`.
"""
