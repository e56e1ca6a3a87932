"""Which learning-rate schedule is best for my model and my data, and can I trust the answer?"""
