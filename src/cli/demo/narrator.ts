/**
 * How the demo tells its story: numbered steps, the commands that they stand for, what the
 * commands said, and what it means. Plain text where nobody looks at a terminal.
 */
import type { Colours } from '../terminal.ts'

export interface Narrator {
  title(text: string, lines: readonly string[]): void
  step(text: string): void
  say(text: string): void
  /** A command as a user would type it. */
  command(text: string): void
  /** A line that a command printed. */
  output(line: string): void
  proof(holds: boolean, text: string): void
  pairs(pairs: readonly (readonly [string, string])[]): void
}

const WIDTH = 88

export function createNarrator(print: (line: string) => void, colours: Colours): Narrator {
  let steps = 0
  const paragraph = (text: string) => {
    for (const line of wrap(text, WIDTH - 3)) print(`   ${line}`)
  }
  return {
    title(text, lines) {
      print(colours.bold(text))
      print('')
      for (const line of lines) print(line)
    },
    step(text) {
      steps += 1
      print('')
      print(colours.bold(`${steps}. ${text}`))
    },
    say: paragraph,
    command: (text) => print(`   ${colours.cyan(`$ ${text}`)}`),
    output: (line) => print(`     ${colours.dim(line)}`.trimEnd()),
    proof(holds, text) {
      const mark = holds ? colours.green('✓') : colours.red('✗')
      const [first = '', ...rest] = wrap(text, WIDTH - 5)
      print(`   ${mark} ${first}`)
      for (const line of rest) print(`     ${line}`)
    },
    pairs(pairs) {
      const width = Math.max(...pairs.map(([label]) => label.length))
      for (const [label, value] of pairs) print(`   ${label.padEnd(width)}  ${value}`)
    },
  }
}

/** Breaks at spaces. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else {
      line = line === '' ? word : `${line} ${word}`
    }
  }
  return [...lines, line]
}

/** A word as a POSIX shell takes it. */
export function quoteForShell(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}
