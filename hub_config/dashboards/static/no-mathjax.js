// Formulas are shown as they are written: MathJax would have to come from another site.
