// The list of parts says which one is being read.

const links = new Map([...document.querySelectorAll(".contents li a")].map((link) => [link.hash.slice(1), link]));
const parts = [...links.keys()].map((name) => document.getElementById(name));

function markPart() {
  const line = window.innerHeight / 3;
  const read = parts.filter((part) => part.getBoundingClientRect().top < line).at(-1);
  for (const link of links.values()) link.removeAttribute("aria-current");
  links.get(read?.id)?.setAttribute("aria-current", "true");
}

document.addEventListener("scroll", () => requestAnimationFrame(markPart), { passive: true });
markPart();
