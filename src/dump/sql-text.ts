/**
 * Reads SQL as pg_dump, pg_dumpall and pg_restore write it: where a statement ends, and how names
 * stand in it. Pure.
 *
 * Invariant: what lies in a literal, a quoted name, a dollar-quoted body or a comment never
 * counts as an end. Those tools set standard_conforming_strings, so that only E'…' has escapes.
 */

/** Each without its `;` and without comments; psql's own commands with their backslash. */
export function* splitStatements(script: string): Generator<string> {
  let statement = ''
  let isBlank = true
  for (const match of script.matchAll(TOKEN)) {
    const token = match[0]
    if (token === ';' || (isBlank && token.startsWith('\\'))) {
      if (token !== ';') yield token.trim()
      else if (!isBlank) yield statement.trim()
      statement = ''
      isBlank = true
    } else if (!/^(--|\/\*)/.test(token)) {
      statement += token
      isBlank &&= /^\s/.test(token)
    }
  }
  if (!isBlank) yield statement.trim()
}

const LETTER = String.raw`[A-Za-z_\x80-\uffff]`
const WORD = String.raw`[\w\x80-\uffff]`

/** '' inside a literal reads as two literals side by side, which ends at the same place. */
const TOKEN = new RegExp(
  [
    String.raw`--[^\n]*`,
    String.raw`/\*[\s\S]*?\*/`,
    String.raw`(?<![\w$])[eE]'[^'\\]*(?:\\[\s\S][^'\\]*)*'`,
    `'[^']*'`,
    `"[^"]*"`,
    String.raw`(?<![\w$])\$(${LETTER}${WORD}*)?\$[\s\S]*?\$\1\$`,
    ';',
    String.raw`\\[^\n]*`,
    `${WORD}+`,
    String.raw`\s+`,
    String.raw`[\s\S]`,
  ].join('|'),
  'g',
)

/** For a RegExp: a name as fmtId() of PostgreSQL writes it. */
export const NAME = String.raw`(?:"(?:[^"]|"")+"|[a-z_\u0080-\uffff][a-z0-9_$\u0080-\uffff]*)`

/** `"a""b"` -> `a"b`. */
export function unquoteName(name: string): string {
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name
}

export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

export function quoteLiteral(value: string): string {
  const quoted = `'${value.replaceAll("'", "''").replaceAll('\\', '\\\\')}'`
  return value.includes('\\') ? ` E${quoted}` : quoted
}

/** For messages: a statement that sets one must not put it into a log. */
export function hidePasswords(text: string): string {
  return text.replaceAll(/(\bpassword\s+)E?'(?:[^']|'')*'?/gi, "$1'…'")
}
