/**
 * The rules of STYLE.md that a machine can check, for one file: path and text in, findings
 * out. There is no list of exceptions: a file that breaks a rule is mended.
 */
import { basename } from 'node:path/posix'
import { findFunctions } from './find-functions.ts'
import { isTest, judgeImport, judgeModule, moduleOf } from './ladder.ts'
import { maskSource } from './mask-source.ts'

export interface Finding {
  readonly path: string
  readonly line: number
  readonly rule: string
  readonly message: string
}

const MAX_LINE = 100
const MAX_FILE_LINES = 500
const MAX_FUNCTION_LINES = 70

interface Source {
  readonly path: string
  readonly text: string
  readonly masked: string
}

type Rule = (source: Source) => Iterable<Omit<Finding, 'path'>>

/** `path` is relative to the checkout, with slashes. */
export function judgeFile(path: string, text: string): Finding[] {
  const source = { path, text, masked: maskSource(text) }
  const rules: Rule[] = [names, header, sizes, functions, imports, barrels, bans]
  return rules
    .flatMap((rule) => [...rule(source)])
    .map((finding) => ({ path, ...finding }))
    .sort((one, other) => one.line - other.line)
}

const FORBIDDEN_NAME = /(^|[-/])(utils?|helpers?|common|types|managers?|misc)(\.|\/|$)/

function* names({ path }: Source): ReturnType<Rule> {
  const name = basename(path)
  const found = FORBIDDEN_NAME.exec(path)
  if (found !== null) yield finding(1, 'name', `"${found[2]}" says nothing: name what it does`)
  if (/^index\./.test(name)) yield finding(1, 'name', 'index files are barrels')
  if (name !== name.toLowerCase() || name.includes('_')) {
    yield finding(1, 'name', 'file names are kebab-case')
  }
  const unknown = judgeModule(path)
  if (unknown !== undefined) yield finding(1, 'ladder', unknown)
}

function* header({ path, text }: Source): ReturnType<Rule> {
  const first = text.replace(/^#!.*\n/, '').trimStart()
  if (!/\.test\.ts$/.test(path) && !/^\/[*/]/.test(first)) {
    yield finding(1, 'header', 'a file opens with a comment: what it is responsible for')
  }
}

/** A lone string cannot be broken without making it worse to search for. */
const LONE_STRING = /^\s*(\w+: ?)?(['"`]).*\2[,;]?$/

function* sizes({ text }: Source): ReturnType<Rule> {
  const lines = text.replace(/\n$/, '').split('\n')
  if (lines.length > MAX_FILE_LINES) {
    yield finding(MAX_FILE_LINES + 1, 'size', `${lines.length} lines; at most ${MAX_FILE_LINES}`)
  }
  for (const [index, line] of lines.entries()) {
    const length = [...line].length
    if (length > MAX_LINE && !LONE_STRING.test(line)) {
      yield finding(index + 1, 'size', `${length} characters; at most ${MAX_LINE}`)
    }
  }
}

function* functions({ masked }: Source): ReturnType<Rule> {
  for (const { firstLine, lastLine } of findFunctions(masked)) {
    const lines = lastLine - firstLine + 1
    if (lines > MAX_FUNCTION_LINES) {
      yield finding(firstLine, 'size', `function of ${lines} lines; at most ${MAX_FUNCTION_LINES}`)
    }
  }
}

/** `from '…'`, `import('…')`, `import '…'` and `new URL('…', import.meta.url)`. */
const IMPORT = /\b(?:from|import|new URL)\s*\(?\s*(?=['"])/g

function* imports({ path, text, masked }: Source): ReturnType<Rule> {
  if (path.includes('/assembly/')) return
  for (const match of masked.matchAll(IMPORT)) {
    const start = match.index + match[0].length
    const specifier = text.slice(start + 1, masked.indexOf(text[start] ?? "'", start + 1))
    // A URL of something that is no module is a file to read, not a dependency.
    const isModule = !match[0].startsWith('new') || /\.[cm]?[jt]s$/.test(specifier)
    const reason = isModule ? judgeImport(path, specifier) : undefined
    if (reason !== undefined) yield finding(lineAt(text, start), 'ladder', reason)
  }
}

const RE_EXPORT = /^export\s+(?:type\s+)?\{[^}]*\}\s*from\s*['"] *['"];?\s*/gm

function* barrels({ text, masked }: Source): ReturnType<Rule> {
  for (const match of masked.matchAll(/\bexport\s*\*/g)) {
    yield finding(lineAt(text, match.index), 'barrel', '`export *` makes a barrel')
  }
  const hasOne = masked.search(RE_EXPORT) >= 0
  if (hasOne && masked.replace(RE_EXPORT, '').trim() === '') {
    yield finding(1, 'barrel', 'this file only exports what others export')
  }
}

interface Ban {
  readonly pattern: RegExp
  readonly message: string
  /** Modules of src/ where it is allowed; `undefined`: it is allowed nowhere at all. */
  readonly allowedIn: readonly string[] | undefined
}

const BANS: readonly Ban[] = [
  {
    pattern: /\bprocess\s*\.\s*env\b/g,
    message: 'process.env belongs to config/',
    allowedIn: ['config'],
  },
  {
    pattern: /\bDate\.now\b|\bnew Date\(\s*\)|\bnew Date\b(?!\s*\()|\bperformance\.now\b/g,
    message: 'time comes from base/clock.ts',
    allowedIn: ['base'],
  },
  {
    pattern: /\bset(?:Timeout|Interval|Immediate)\b/g,
    message: 'waiting goes through base/clock.ts',
    allowedIn: ['base'],
  },
  {
    pattern: /\bMath\.random\b|\brandom(?:Bytes|UUID|Int|FillSync|Fill)\b|\bgetRandomValues\b/g,
    message: 'randomness comes from base/random.ts',
    allowedIn: ['base'],
  },
  { pattern: /\bconsole\s*\./g, message: 'only cli/ talks to people', allowedIn: ['cli'] },
  {
    pattern: /(?:[:<,|&(]\s*|\bas\s+|\bextends\s+)any\b(?!\s*[:(?])/g,
    message: '`any` switches the compiler off: `unknown`, or the type',
    allowedIn: undefined,
  },
  {
    pattern: /^\s*(?:export\s+)?(?:declare\s+)?(?:const\s+)?(?:enum|namespace)\s+\w/gm,
    message: 'not erasable: a union of literals, or a module',
    allowedIn: undefined,
  },
  {
    pattern: /\b(?:test|it|describe|suite)\s*\.\s*only\b/g,
    message: '`only` hides the other tests',
    allowedIn: undefined,
  },
]

function* bans({ path, text, masked }: Source): ReturnType<Rule> {
  const module = moduleOf(path)
  const isProduct = module !== undefined && !isTest(path) && !path.includes('/assembly/')
  for (const { pattern, message, allowedIn } of BANS) {
    const applies = allowedIn === undefined || (isProduct && !allowedIn.includes(module))
    if (!applies) continue
    for (const match of masked.matchAll(pattern)) {
      const at = match.index + match[0].length - match[0].trimStart().length
      yield finding(lineAt(text, at), 'ban', message)
    }
  }
}

function finding(line: number, rule: string, message: string): Omit<Finding, 'path'> {
  return { line, rule, message }
}

function lineAt(text: string, index: number): number {
  return text.slice(0, index).split('\n').length
}
