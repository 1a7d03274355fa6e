"""Parts of gpt_dialogue.py: the language model, its training, a billion parameters, figures."""
