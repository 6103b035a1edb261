"""Rules of pages (`serve --rules DIR`): what a shop wants to see on them whatever the model says. Configuration, never part of a release."""
