/**
 * How COPY writes rows: options judged, completed, and written as SQL. Pure.
 *
 * Invariant: with options that are not refused here every value is read again as it was, and
 * NULL as NULL. PostgreSQL: CopyAttributeOutText() and CopyAttributeOutCSV() in
 * commands/copyto.c. csv quotes a value that reads like NULL; text quotes nothing.
 */
import { Failure } from '../base/failure.ts'
import type { CopyFormat, DumpedCopy } from '../repository/dump-record.ts'
import { quoteLiteral } from './sql-text.ts'

export const COPY_FORMATS: readonly CopyFormat[] = ['csv', 'text', 'binary']

/** As the user gives them; undefined: COPY's own default. */
export interface CopyOptions {
  readonly format: CopyFormat
  readonly header: boolean
  readonly delimiter: string | undefined
  readonly null: string | undefined
  /** Undefined: that of the database, so that nothing is converted. */
  readonly encoding: string | undefined
  readonly quote: string | undefined
  readonly escape: string | undefined
  readonly forceQuote: boolean
}

export type CopyForm = Pick<
  DumpedCopy,
  'format' | 'encoding' | 'header' | 'delimiter' | 'null' | 'quote' | 'escape'
>

const FIRST_WITH_TEXT_HEADER = 15

/** TM2081; `major`: of the server. */
export function completeForm(options: CopyOptions, encoding: string, major: number): CopyForm {
  const { format, header } = options
  refuseStrangers(options)
  if (format === 'binary') return { format, encoding, header: false }
  if (header && format === 'text' && major < FIRST_WITH_TEXT_HEADER) {
    throw contradiction(
      `--header with --format text needs PostgreSQL ${FIRST_WITH_TEXT_HEADER}; the server is ${major}`,
      'use --format csv, or leave --header out',
    )
  }
  const delimiter = options.delimiter ?? (format === 'csv' ? ',' : '\t')
  const nullText = options.null ?? (format === 'csv' ? '' : '\\N')
  const form = { format, encoding, header, delimiter, null: nullText }
  judgeCharacter('--delimiter', delimiter)
  judgeNull(nullText, delimiter)
  if (format === 'text') {
    judgeTextForm(delimiter, nullText)
    return form
  }
  if (delimiter === '\\' || nullText === '\\.') {
    throw contradiction(
      `a line could read '\\.' with these options, which ends the rows where it is read`,
      'choose another --delimiter and --null',
    )
  }
  const quote = options.quote ?? '"'
  const escapedBy = options.escape ?? quote
  judgeCharacter('--quote', quote)
  judgeCharacter('--escape', escapedBy)
  if (quote === delimiter) {
    throw contradiction('--quote and --delimiter are the same', 'choose two characters')
  }
  if (nullText.includes(quote)) {
    throw contradiction(`--null '${nullText}' has the quote in it`, 'choose another text')
  }
  return { ...form, quote, escape: escapedBy }
}

function refuseStrangers(options: CopyOptions): void {
  const { format } = options
  const given: [string, boolean, readonly CopyFormat[]][] = [
    ['--header', options.header, ['csv', 'text']],
    ['--delimiter', options.delimiter !== undefined, ['csv', 'text']],
    ['--null', options.null !== undefined, ['csv', 'text']],
    ['--quote', options.quote !== undefined, ['csv']],
    ['--escape', options.escape !== undefined, ['csv']],
    ['--force-quote', options.forceQuote, ['csv']],
  ]
  const strange = given.find(([, isGiven, formats]) => isGiven && !formats.includes(format))
  if (strange === undefined) return
  const [option, , formats] = strange
  throw contradiction(
    `${option} is not for --format ${format}`,
    `leave it out, or use --format ${formats.join(' or ')}`,
  )
}

function judgeCharacter(option: string, value: string): void {
  if (value.length === 1 && value > '\0' && value < '\x80' && !/[\r\n]/.test(value)) return
  throw contradiction(
    `${option} cannot be '${value}'`,
    'it is one character of ASCII, and no line break',
  )
}

function judgeNull(text: string, delimiter: string): void {
  if (/[\r\n]/.test(text) || text.includes(delimiter)) {
    throw contradiction(
      '--null cannot have a line break or the delimiter in it',
      'choose another text',
    )
  }
}

/**
 * What stands for NULL must be a text that no value is written as: one with a backslash that
 * escapes nothing. COPY itself would take any, and read values of that text as NULL.
 */
function judgeTextForm(delimiter: string, nullText: string): void {
  if (/[\\.a-z0-9]/.test(delimiter)) {
    throw contradiction(
      `--delimiter cannot be '${delimiter}' with --format text`,
      'COPY takes no backslash, dot, digit or small letter there: choose another one',
    )
  }
  if (!couldBeAValue(nullText, delimiter) && nullText !== '\\.') return
  throw contradiction(
    `--null '${nullText}' with --format text would make NULL and that text the same`,
    "use --format csv, which quotes such a value, or leave --null out: '\\N' is never a value",
  )
}

/** Is each backslash followed by what one is written before? */
function couldBeAValue(text: string, delimiter: string): boolean {
  for (let at = 0; at < text.length; at++) {
    if (text[at] !== '\\') continue
    const next = text[++at]
    if (next === undefined || !`\\bfnrtv${delimiter}`.includes(next)) return false
  }
  return true
}

export type CopyDirection = 'out' | 'in'

/** What stands in the parentheses. */
export function formatForm(form: CopyForm, direction: CopyDirection, forceQuote = false): string {
  const { format, encoding, header, delimiter, null: nullText, quote } = form
  if (format === 'binary') return 'FORMAT binary'
  return [
    `FORMAT ${format}`,
    `ENCODING ${quoteLiteral(encoding)}`,
    // In text an older server knows the word only to refuse it.
    ...(header ? ['HEADER true'] : []),
    ...(delimiter === undefined ? [] : [`DELIMITER ${quoteLiteral(delimiter)}`]),
    ...(nullText === undefined ? [] : [`NULL ${quoteLiteral(nullText)}`]),
    ...(quote === undefined ? [] : [`QUOTE ${quoteLiteral(quote)}`]),
    ...(form.escape === undefined ? [] : [`ESCAPE ${quoteLiteral(form.escape)}`]),
    ...(direction === 'out' && forceQuote ? ['FORCE_QUOTE *'] : []),
  ].join(', ')
}

/**
 * In binary, texts come in the encoding of the session, whatever ENCODING says; the statement
 * itself has been read by then, so it may have names in UTF-8.
 */
export function formatEncodingSwitch({ format, encoding }: CopyForm): string {
  return format === 'binary' ? `SET LOCAL client_encoding TO ${quoteLiteral(encoding)}; ` : ''
}

function contradiction(message: string, fix: string): Failure {
  return new Failure('TM2081', { message, fix })
}
