// The list of parts says which one is being read.

const links = new Map([...document.querySelectorAll(".contents li a")].map((link) => [link.hash.slice(1), link]));
const parts = [...links.keys()].map((name) => document.getElementById(name));

function markPart() {
  const line = window.innerHeight / 3;
  const read = parts.filter((part) => part.getBoundingClientRect().top < line).at(-1);
  for (const link of links.values()) link.removeAttribute("aria-current");
  const link = links.get(read?.id);
  link?.setAttribute("aria-current", "true");
  const list = document.querySelector(".contents ul");
  if (list.scrollWidth > list.clientWidth) list.scrollLeft = link ? link.offsetLeft - list.offsetLeft - list.clientWidth / 3 : 0;
}

document.addEventListener("scroll", () => requestAnimationFrame(markPart), { passive: true });
markPart();
