// Renders formulas with the KaTeX that lies beside this file: those that pymdownx.arithmatex marked,
// and those between dollars in the text of a notebook.
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".arithmatex, .jp-MarkdownOutput")) {
    const dollars = [
      { left: "$$", right: "$$", display: true },
      { left: "$", right: "$", display: false },
    ];
    renderMathInElement(element, {
      delimiters: [
        { left: "\\(", right: "\\)", display: false },
        { left: "\\[", right: "\\]", display: true },
        ...(element.matches(".jp-MarkdownOutput") ? dollars : []),
      ],
      throwOnError: true,
    });
  }
});
