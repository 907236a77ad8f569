/**
 * From the text of tidemark.yaml to a Configuration. Pure.
 *
 * Invariant: nothing is guessed or passed over. Every problem is reported with its line
 * and column, a misspelt key with the one that was probably meant.
 */
import {
  type Document,
  isMap,
  isNode,
  isPair,
  isScalar,
  LineCounter,
  type Node,
  parseDocument,
} from 'yaml'
import type * as z from 'zod'
import { Failure } from '../base/failure.ts'
import { buildConfiguration, type Configuration } from './configuration.ts'
import {
  type ConfigurationFile,
  configurationJsonSchema,
  configurationSchema,
} from './configuration-schema.ts'
import { didYouMean, nearestName } from './nearest-name.ts'

export interface ConfigurationProblem {
  readonly line: number
  readonly column: number
  /** A sentence without the place. */
  readonly problem: string
  readonly fix?: string
}

export function parseConfiguration(path: string, text: string): Configuration {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset)
    return { line, column: col }
  }
  const malformed = [...document.errors, ...document.warnings].map((error) => ({
    ...place(error.pos[0]),
    problem: `not YAML: ${error.message}`,
  }))
  if (malformed.length > 0) throw notValid(path, malformed)
  const result = configurationSchema.safeParse(document.toJS() ?? {})
  if (!result.success) {
    const issues = withoutConsequences(result.error.issues, document)
    throw notValid(
      path,
      issues.flatMap((issue) => explain(issue, document, place)),
    )
  }
  const conflicts = findConflicts(result.data, document, place)
  if (conflicts.length > 0) throw notValid(path, conflicts)
  return buildConfiguration(path, result.data)
}

interface Place {
  readonly line: number
  readonly column: number
}

type PlaceOf = (offset: number) => Place
type Path = readonly PropertyKey[]

/** A misspelt key is missing under its right name as well: that is said once, and first. */
function withoutConsequences(
  issues: readonly z.core.$ZodIssue[],
  document: Document,
): z.core.$ZodIssue[] {
  const meant = new Set<string>()
  for (const issue of issues) {
    if (issue.code !== 'unrecognized_keys') continue
    for (const key of issue.keys) {
      const nearest = nearestName(key, knownKeys(issue.path))
      if (nearest !== undefined) meant.add(format([...issue.path, nearest]))
    }
  }
  const isUnknown = ({ code }: z.core.$ZodIssue): boolean => code === 'unrecognized_keys'
  const unknownFirst = issues.toSorted((a, b) => Number(isUnknown(b)) - Number(isUnknown(a)))
  return unknownFirst.filter(
    ({ code, path }) => code !== 'invalid_type' || document.hasIn(path) || !meant.has(format(path)),
  )
}

function explain(
  issue: z.core.$ZodIssue,
  document: Document,
  place: PlaceOf,
): ConfigurationProblem[] {
  const { path } = issue
  const at = place(offsetOfValue(document, path))
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => unknownKey(document, place, path, key))
    case 'invalid_key':
      return [
        {
          ...place(offsetOfKey(document, path)),
          problem: `'${String(path.at(-1))}' is not a name for an entry of ${format(path.slice(0, -1))}`,
          fix: issue.issues[0]?.message ?? 'choose another name',
        },
      ]
    case 'invalid_type':
      return [wrongType(document, at, path, issue.expected)]
    case 'invalid_value':
      return [
        {
          ...at,
          problem: `${format(path)} cannot be ${show(document.getIn(path))}`,
          fix: `use ${issue.values.map((value) => `'${String(value)}'`).join(' or ')}`,
        },
      ]
    default:
      return [{ ...at, problem: `${format(path)}: ${issue.message}` }]
  }
}

function unknownKey(
  document: Document,
  place: PlaceOf,
  parent: Path,
  key: string,
): ConfigurationProblem {
  const known = knownKeys(parent)
  const nearest = nearestName(key, known)
  const at = place(offsetOfKey(document, [...parent, key]))
  const within = parent.length === 0 ? '' : ` in ${format(parent)}`
  return {
    ...at,
    problem: `unknown key '${key}'${within}${didYouMean(key, known)}`,
    fix:
      nearest === undefined
        ? `remove it; the keys there are ${known.join(', ')}`
        : `write '${nearest}', or remove it; the keys there are ${known.join(', ')}`,
  }
}

function wrongType(
  document: Document,
  at: Place,
  path: Path,
  expected: string,
): ConfigurationProblem {
  if (!document.hasIn(path)) {
    const parent = path.slice(0, -1)
    const within = parent.length === 0 ? 'the file' : format(parent)
    return {
      ...at,
      problem: `${within} has no '${String(path.at(-1))}'`,
      fix: `add ${format(path)}`,
    }
  }
  const wanted = WORDS[expected] ?? expected
  return { ...at, problem: `${format(path)} is not ${wanted}`, fix: `make it ${wanted}` }
}

const WORDS: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  array: 'a list ([a, b])',
  object: 'a mapping (key: value)',
  record: 'a mapping (name: …)',
}

/** What single values cannot show: names that refer to nothing, and one URL twice. */
function findConflicts(
  file: ConfigurationFile,
  document: Document,
  place: PlaceOf,
): ConfigurationProblem[] {
  const problems: ConfigurationProblem[] = []
  const known = Object.keys(file.repositories)
  for (const [cluster, { repositories, retentionIn }] of Object.entries(file.clusters)) {
    for (const name of Object.keys(retentionIn ?? {})) {
      if ((repositories ?? known).includes(name)) continue
      const at = place(offsetOfKey(document, ['clusters', cluster, 'retentionIn', name]))
      const problem = `cluster ${cluster} has no repository '${name}'${didYouMean(name, known)}`
      const names = (repositories ?? known).join(', ')
      problems.push({ ...at, problem, fix: `its repositories are ${names}` })
    }
    if (known.length === 0) {
      const at = place(offsetOfKey(document, ['clusters', cluster]))
      problems.push({ ...at, problem: `cluster ${cluster} has no repository`, fix: 'add one' })
    }
    for (const [index, name] of (repositories ?? []).entries()) {
      const at = place(offsetOfValue(document, ['clusters', cluster, 'repositories', index]))
      if (!known.includes(name)) {
        const problem = `no repository '${name}'${didYouMean(name, known)}`
        problems.push({ ...at, problem, fix: `the repositories are ${known.join(', ')}` })
      } else if (repositories?.indexOf(name) !== index) {
        problems.push({ ...at, problem: `repository '${name}' is named twice`, fix: 'remove one' })
      }
    }
  }
  problems.push(...findNeedlessRequirements(file, document, place))
  return [...problems, ...findEqualUrls(file, document, place)]
}

/** What is required must be among what takes the cluster's backups. */
function findNeedlessRequirements(
  file: ConfigurationFile,
  document: Document,
  place: PlaceOf,
): ConfigurationProblem[] {
  const all = Object.keys(file.repositories)
  return Object.entries(file.clusters).flatMap(([cluster, { repositories = all, required }]) => {
    return (required ?? []).flatMap((name, index) => {
      if (repositories.includes(name)) return []
      const at = place(offsetOfValue(document, ['clusters', cluster, 'required', index]))
      const problem =
        `required names '${name}'${didYouMean(name, repositories)}, ` +
        `which is no repository of cluster ${cluster}`
      return [{ ...at, problem, fix: `its repositories are ${repositories.join(', ')}` }]
    })
  })
}

function findEqualUrls(
  file: ConfigurationFile,
  document: Document,
  place: PlaceOf,
): ConfigurationProblem[] {
  const owners = new Map<string, string>()
  const problems: ConfigurationProblem[] = []
  for (const [name, { url, endpoint = '' }] of Object.entries(file.repositories)) {
    // Two stores may have buckets of one name.
    const same = `${new URL(url).href.replace(/\/+$/, '')} ${endpoint}`
    const owner = owners.get(same)
    if (owner === undefined) owners.set(same, name)
    else {
      const at = place(offsetOfValue(document, ['repositories', name, 'url']))
      const problem = `repository '${name}' has the URL of '${owner}'`
      problems.push({ ...at, problem, fix: 'two copies in one place are one copy: remove one' })
    }
  }
  return problems
}

/** The keys that the schema has at a path, read from its JSON Schema. */
function knownKeys(path: Path): string[] {
  let schema: JsonSchema | undefined = configurationJsonSchema()
  for (const key of path) {
    schema = schema?.properties?.[String(key)] ?? schema?.items ?? additional(schema)
  }
  return Object.keys(schema?.properties ?? {})
}

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly items?: JsonSchema
  readonly additionalProperties?: JsonSchema | boolean
}

function additional(schema: JsonSchema | undefined): JsonSchema | undefined {
  const found = schema?.additionalProperties
  return typeof found === 'object' ? found : undefined
}

/** Where the value of a path begins, or of the nearest parent that is there. */
function offsetOfValue(document: Document, path: Path): number {
  for (let length = path.length; length >= 0; length--) {
    const node: unknown = document.getIn(path.slice(0, length), true)
    if (isNode(node) && node.range) return node.range[0]
  }
  return 0
}

function offsetOfKey(document: Document, path: Path): number {
  const parent: unknown =
    path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true)
  if (!isMap(parent)) return offsetOfValue(document, path)
  const pair = parent.items.find((item) => isPair(item) && isKey(item.key, String(path.at(-1))))
  const key = pair?.key as Node | undefined
  return key?.range?.[0] ?? offsetOfValue(document, path)
}

function isKey(node: unknown, key: string): boolean {
  return isScalar(node) && String(node.value) === key
}

function format(path: Path): string {
  return path.length === 0 ? 'the file' : path.map(String).join('.')
}

function show(value: unknown): string {
  return typeof value === 'string' ? `'${value}'` : JSON.stringify(value)
}

/** The first problem is the message; the others follow in the because. */
function notValid(path: string, problems: readonly ConfigurationProblem[]): Failure {
  const sorted = problems.toSorted((a, b) => a.line - b.line || a.column - b.column)
  const [first, ...others] = sorted as [ConfigurationProblem, ...ConfigurationProblem[]]
  const also = others.map(({ line, column, problem }) => `${path}:${line}:${column}: ${problem}`)
  return new Failure('TM1003', {
    message: `${path}:${first.line}:${first.column}: ${first.problem}`,
    ...(also.length === 0 ? {} : { because: `there is more:\n${also.join('\n')}` }),
    fix: first.fix ?? 'docs/manual/configuration.md says what the file may hold',
    details: { path, problems: sorted },
  })
}
