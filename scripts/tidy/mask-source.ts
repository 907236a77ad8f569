/**
 * Blanks out what is not code: the text of comments, strings, templates and regular
 * expressions becomes spaces, quotes and line ends stay. Every position means the same in
 * the original and in the masked text, so rules search the mask and quote the original.
 *
 * A scanner, not a parser: whether a slash begins a regular expression is told by the
 * token before it, which is right for code as our formatter leaves it.
 */
export function maskSource(text: string): string {
  const scanner = new Scanner(text)
  scanner.code(undefined)
  return scanner.masked.join('')
}

/** After these words a slash begins a regular expression. */
const OPERATOR_WORDS = /(?:^|[^.\w$])(return|typeof|case|in|of|do|else|void|delete|throw|await)$/

class Scanner {
  readonly masked: string[]
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
    this.masked = [...Array(text.length).keys()].map((index) => text[index] ?? '')
  }

  /** Reads code up to `end` (the brace that closes a template's expression) or the end. */
  code(end: '}' | undefined): void {
    let depth = 0
    while (this.#at < this.#text.length) {
      const here = this.#text[this.#at] ?? ''
      const next = this.#text[this.#at + 1]
      if (here === '/' && next === '/') this.#blankUntil(this.#indexOf('\n'))
      else if (here === '/' && next === '*') this.#blankUntil(this.#indexOf('*/') + 2)
      else if (here === "'" || here === '"') this.#string(here)
      else if (here === '`') this.#template()
      else if (here === '/' && this.#startsRegex()) this.#regex()
      else {
        if (here === '{') depth++
        if (here === '}' && depth-- === 0 && end !== undefined) return
        this.#at++
      }
    }
  }

  #indexOf(what: string): number {
    const found = this.#text.indexOf(what, this.#at)
    return found < 0 ? this.#text.length : found
  }

  #blankUntil(end: number): void {
    for (; this.#at < Math.min(end, this.#text.length); this.#at++) this.#blank()
  }

  #blank(): void {
    if (this.#text[this.#at] !== '\n') this.masked[this.#at] = ' '
  }

  #string(quote: string): void {
    this.#at++
    while (this.#at < this.#text.length && this.#text[this.#at] !== quote) this.#character()
    this.#at++
  }

  #character(): void {
    if (this.#text[this.#at] === '\\') this.#blankUntil(this.#at + 2)
    else this.#blankUntil(this.#at + 1)
  }

  #template(): void {
    this.#at++
    while (this.#at < this.#text.length && this.#text[this.#at] !== '`') {
      if (this.#text.startsWith('${', this.#at)) {
        this.#blankUntil(this.#at + 1)
        this.#at++
        this.code('}')
        this.#at++
      } else this.#character()
    }
    this.#at++
  }

  #startsRegex(): boolean {
    const before = this.masked
      .slice(Math.max(0, this.#at - 40), this.#at)
      .join('')
      .trimEnd()
    return before === '' || /[([{},;:=!&|?+\-*%<>~^]$/.test(before) || OPERATOR_WORDS.test(before)
  }

  #regex(): void {
    this.#at++
    let inClass = false
    while (this.#at < this.#text.length) {
      const here = this.#text[this.#at]
      if (here === '\n' || (here === '/' && !inClass)) break
      if (here === '[') inClass = true
      if (here === ']') inClass = false
      this.#character()
    }
    this.#at++
  }
}
