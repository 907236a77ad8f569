/**
 * Finds the bodies of functions, methods and arrows in masked source (mask-source.ts).
 * Decides by tokens: a brace after `=>`, or after the `)` of something that is no `if`,
 * `for`, `while`, `switch`, `catch` or `with`, with or without a return type between.
 */
export interface FunctionBody {
  /** Lines from 1: that of the parameter list's beginning, and that of the last brace. */
  readonly firstLine: number
  readonly lastLine: number
}

interface Token {
  readonly text: string
  readonly line: number
  /** Index of the bracket that closes or opens this one. */
  partner: number
}

export function findFunctions(masked: string): FunctionBody[] {
  const tokens = tokenize(masked)
  const bodies: FunctionBody[] = []
  for (let at = 0; at < tokens.length; at++) {
    const open = bodyAfter(tokens, at)
    const close = open === undefined ? undefined : tokens[tokens[open]?.partner ?? -1]
    if (close === undefined) continue
    bodies.push({ firstLine: firstLine(tokens, at), lastLine: close.line })
  }
  return bodies
}

const TOKEN = /=>|[A-Za-z_$#][\w$]*|\d[\w.]*|[^\s\w]/g
const CLOSES: Readonly<Record<string, string>> = { ')': '(', ']': '[', '}': '{' }

function tokenize(masked: string): Token[] {
  const tokens: Token[] = []
  const open: number[] = []
  let line = 1
  let from = 0
  for (const match of masked.matchAll(TOKEN)) {
    for (; from < match.index; from++) if (masked[from] === '\n') line++
    const token = { text: match[0], line, partner: -1 }
    const index = tokens.push(token) - 1
    if ('([{'.includes(token.text)) open.push(index)
    const opener = CLOSES[token.text]
    if (opener === undefined) continue
    const partner = open.pop() ?? -1
    const partnerToken = tokens[partner]
    if (partnerToken?.text !== opener) continue
    token.partner = partner
    partnerToken.partner = index
  }
  return tokens
}

const CONTROL = new Set(['if', 'for', 'while', 'switch', 'catch', 'with'])

/** The index of the brace that opens a body whose head ends at `at`, if one does. */
function bodyAfter(tokens: readonly Token[], at: number): number | undefined {
  const token = tokens[at]
  if (token?.text === '=>') return tokens[at + 1]?.text === '{' ? at + 1 : undefined
  if (token?.text !== ')') return undefined
  const before = tokens[token.partner - 1]?.text ?? ''
  const isForAwait = before === 'await' && tokens[token.partner - 2]?.text === 'for'
  if (CONTROL.has(before) || isForAwait) return undefined
  if (tokens[token.partner - 2]?.text === 'extends') return undefined
  const next = tokens[at + 1]?.text
  if (next === '{') return at + 1
  return next === ':' ? skipReturnType(tokens, at + 2) : undefined
}

const ENDS_TYPE = new Set([';', ',', '=', '=>', ')', ']', '}'])
const STATEMENT = /^(if|for|const|let|return|function|class|export|import|while|switch|try|throw)$/
/** After these a brace begins an object type, not a body. */
const TYPE_CONTINUES = new Set([':', '|', '&', '<', '(', ','])

function skipReturnType(tokens: readonly Token[], from: number): number | undefined {
  let angles = 0
  for (let at = from; at < tokens.length; at++) {
    const { text, partner } = tokens[at] as Token
    if (text === '<') angles++
    if (text === '>') angles--
    const opensType = angles > 0 || TYPE_CONTINUES.has(tokens[at - 1]?.text ?? '')
    if (text === '{' && !opensType) return at
    if ('([{'.includes(text)) {
      if (partner < 0) return undefined
      at = partner
    } else if ((angles === 0 && ENDS_TYPE.has(text)) || STATEMENT.test(text)) return undefined
  }
  return undefined
}

function firstLine(tokens: readonly Token[], head: number): number {
  const token = tokens[head] as Token
  return token.text === ')' ? (tokens[token.partner]?.line ?? token.line) : token.line
}
