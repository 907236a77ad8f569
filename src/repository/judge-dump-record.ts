/**
 * Judges whether what was parsed is the record of a dump. Pure.
 *
 * Invariant: of a record that fits, every number of a file, and every pack of a list, is one that
 * the record has; names of files are safe to be joined to the path of a directory.
 */
import { parseLsn } from '../postgres/lsn.ts'
import type { DumpRecord } from './dump-record.ts'
import { isBackupId, isClusterName } from './keys.ts'

/** The path of what does not fit, from the value on: `.files[3].bytes`, or '' for itself. */
type Check = (value: unknown) => string | undefined

function when(fits: (value: unknown) => boolean): Check {
  return (value) => (fits(value) ? undefined : '')
}

function matching(form: RegExp): Check {
  return when((value) => typeof value === 'string' && form.test(value))
}

const text = when((value) => typeof value === 'string')
const count = when((value) => Number.isSafeInteger(value) && (value as number) >= 0)
const time = when((value) => typeof value === 'string' && !Number.isNaN(Date.parse(value)))
const id = when((value) => typeof value === 'string' && isBackupId(value))
const lsn = when((value) => typeof value === 'string' && parseLsn(value) !== undefined)
const packId = matching(/^[0-9a-f]{32}$/)

function oneOf(words: readonly string[]): Check {
  return when((value) => words.includes(value as string))
}

function listOf(check: Check): Check {
  return (value) => {
    if (!Array.isArray(value)) return ''
    for (const [index, item] of value.entries()) {
      const misfit = check(item)
      if (misfit !== undefined) return `[${index}]${misfit}`
    }
    return undefined
  }
}

type Fields = Readonly<Record<string, unknown>>

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Fields of later versions are passed over. */
function fieldsOf(
  shape: Readonly<Record<string, Check>>,
  optional: Readonly<Record<string, Check>> = {},
): Check {
  return (value) => {
    if (!isFields(value)) return ''
    for (const [name, check] of Object.entries({ ...shape, ...optional })) {
      if (value[name] === undefined && name in optional) continue
      const misfit = check(value[name])
      if (misfit !== undefined) return `.${name}${misfit}`
    }
    return undefined
  }
}

const textsByName: Check = (value) => {
  return isFields(value) ? listOf(text)(Object.values(value)) : ''
}

const reference = fieldsOf({ pack: packId, frame: count })

/** `globals.sql`, `1.sql`, `1.dump`, `1.csv`, `1/toc.dat`: never a path that leads elsewhere. */
const FILE_NAME =
  /^(globals\.sql|[1-9]\d*\.(sql|dump|tar|csv|text|binary)|[1-9]\d*\/[A-Za-z0-9_][A-Za-z0-9_.-]*)$/

export function isDumpFileName(name: string): boolean {
  return FILE_NAME.test(name)
}

/** Of ASCII: what COPY takes. */
const oneCharacter = when((value) => {
  return typeof value === 'string' && value.length === 1 && value > '\0' && value < '\x80'
})

const copied = fieldsOf(
  {
    rows: count,
    columns: listOf(fieldsOf({ name: text, type: text })),
    format: oneOf(['csv', 'text', 'binary']),
    encoding: matching(/^[A-Za-z0-9_]+$/),
    header: when((value) => typeof value === 'boolean'),
  },
  {
    table: fieldsOf({ schema: text, name: text }),
    delimiter: oneCharacter,
    null: text,
    quote: oneCharacter,
    escape: oneCharacter,
  },
)

const checkFields = fieldsOf(
  {
    id,
    cluster: when((value) => typeof value === 'string' && isClusterName(value)),
    startedAt: time,
    finishedAt: time,
    server: fieldsOf({ systemIdentifier: matching(/^\d+$/), version: text, major: count }),
    toolVersion: text,
    format: oneOf(['plain', 'custom', 'directory', 'tar', 'copy']),
    selection: listOf(text),
    databases: listOf(
      fieldsOf({
        name: text,
        oid: count,
        encoding: text,
        lsn,
        at: time,
        files: listOf(count),
        objectLists: listOf(reference),
        objects: count,
      }),
    ),
    files: listOf(
      fieldsOf({
        name: matching(FILE_NAME),
        bytes: count,
        sha256: matching(/^[0-9a-f]{64}$/),
        chunkLists: listOf(reference),
      }),
    ),
    packs: listOf(fieldsOf({ id: packId, bytes: count })),
    sizes: fieldsOf({
      rawBytes: count,
      storedBytes: count,
      chunks: count,
      reusedChunks: count,
      reusedBytes: count,
    }),
    labels: textsByName,
  },
  { globals: count, base: id, copy: copied },
)

/** Why it is no record of a dump, or undefined. */
export function judgeDumpRecord(value: unknown): string | undefined {
  const misfit = checkFields(value)
  if (misfit !== undefined) return `its field ${misfit.slice(1)} is not as it must be`
  return judgeCopy(value as DumpRecord) ?? judgeReferences(value as DumpRecord)
}

/** Without one of these words another default would be read than was written. */
function judgeCopy({ format, copy, databases, files }: DumpRecord): string | undefined {
  if ((format === 'copy') !== (copy !== undefined)) return 'its format and its field copy disagree'
  if (copy === undefined) return undefined
  if (copy.columns.length === 0) return 'it has no columns'
  if (databases.length !== 1 || files.length !== 1) return 'its rows are not in one file'
  const isText = copy.format !== 'binary'
  const isCsv = copy.format === 'csv'
  const fits =
    (copy.delimiter !== undefined) === isText &&
    (copy.null !== undefined) === isText &&
    (copy.quote !== undefined) === isCsv &&
    (copy.escape !== undefined) === isCsv &&
    (isText || !copy.header)
  return fits ? undefined : `its field copy has not the options of ${copy.format}`
}

function judgeReferences({ files, packs, databases, globals, sizes }: DumpRecord) {
  const known = new Set(packs.map((pack) => pack.id))
  if (known.size !== packs.length) return 'it names a pack twice'
  if (new Set(files.map(({ name }) => name)).size !== files.length) return 'it names a file twice'
  const lists = [
    ...files.map((file) => file.chunkLists),
    ...databases.map((one) => one.objectLists),
  ]
  if (!lists.flat().every(({ pack }) => known.has(pack))) return 'a list lies in no pack of it'
  for (const { name, bytes, chunkLists } of files) {
    if ((bytes === 0) !== (chunkLists.length === 0)) return `of ${name} the lists do not fit`
  }
  if (files.reduce((sum, { bytes }) => sum + bytes, 0) !== sizes.rawBytes) {
    return 'its files have not the bytes that it says'
  }
  const numbers = [
    ...databases.flatMap((one) => one.files),
    ...(globals === undefined ? [] : [globals]),
  ]
  if (new Set(numbers).size !== numbers.length) return 'a file belongs to two'
  if (numbers.some((number) => number >= files.length)) return 'it has not all of its files'
  return undefined
}
