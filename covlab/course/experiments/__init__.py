"""Experiments of the lessons, where no other room owns them: a lesson shows the call and the picture, the machinery is here."""
