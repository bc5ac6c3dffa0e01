"""English text as it is spoken, and as tokens.

``normalization.normalize_text`` applies the rules of the other modules in this order: `signs`
(Unicode to ASCII), `formulas`, `addresses`, `dates`, `money`, `units`, `abbreviations`, `numbers`.
`number_words` spells numbers; `tokenizer` turns the result into tokens.
"""
