"""Pure decisions: argument rules, retry budgets, templates, parameters. No clock, process or file in here."""
