// What the theme leaves out for people who use a keyboard or a screen reader.
document$.subscribe(() => {
  document.querySelector('.md-search[role="dialog"]')?.setAttribute("aria-label", "Search");
  document.querySelectorAll(".md-code__nav").forEach((nav, number) => {
    nav.setAttribute("aria-label", `Code ${number + 1}`);
  });
  document.querySelectorAll(".md-typeset pre > code, .md-typeset__scrollwrap").forEach((element) => {
    element.setAttribute("tabindex", "0");
  });
});
