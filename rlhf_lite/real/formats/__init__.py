"""How other tools write down who preferred what: `files` opens their files, `texts` finds prompt and answers in
dialogues, `pairs` and `lists` know one form of row per function. `real.importing` puts them together."""
