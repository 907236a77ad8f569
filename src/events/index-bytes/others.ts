/**
 * The events that are neither rows nor ends, as lines of JSON (docs/design/event-index.md,
 * section 4): `["kind",offset,xid,…]`.
 */
import { lsn } from '../../postgres/lsn.ts'
import type { WalLevel } from '../../postgres/wal-event.ts'
import type { OtherContent, RelationNode } from '../folded-event.ts'
import type { PlacedOther } from '../segment-index.ts'

export function encodeOthers(others: readonly PlacedOther[]): Buffer {
  const lines = others.map(({ offset, xid, content }) =>
    JSON.stringify([content.kind, offset, xid, ...fieldsOf(content)]),
  )
  return Buffer.from(lines.map((line) => `${line}\n`).join(''))
}

/** RangeError or SyntaxError when it is not what was written. */
export function decodeOthers(bytes: Buffer): PlacedOther[] {
  const lines = bytes.toString('utf8').split('\n').slice(0, -1)
  return lines.flatMap((line) => {
    const [kind, offset, xid, ...fields] = JSON.parse(line) as [string, number, number]
    const content = contentOf(kind, new Values(fields))
    return content === undefined ? [] : [{ offset, xid, content }]
  })
}

type Field = unknown

function nodeFields({ tablespace, database, number }: RelationNode): Field {
  return [tablespace, database, number]
}

function fieldsOf(content: OtherContent): readonly Field[] {
  switch (content.kind) {
    case 'storage-created':
      return content.isUnlogged ? [nodeFields(content.node), 1] : [nodeFields(content.node)]
    case 'storage-truncated':
      return [nodeFields(content.node), content.blocks]
    case 'relation-truncated':
      return [content.database, content.relationOids]
    case 'prepared':
      return [content.database, String(content.time)]
    case 'assigned':
      return [content.subxids]
    case 'restore-point':
      return [String(content.time), content.name]
    case 'running':
      return [content.nextXid, content.oldestXid]
    case 'relation-named': {
      const { node, oid, schemaOid, name, relationKind } = content
      return [nodeFields(node), oid, schemaOid, name, relationKind]
    }
    case 'schema-named':
      return [content.database, content.oid, content.name]
    default:
      return clusterFieldsOf(content)
  }
}

function clusterFieldsOf(content: OtherContent): readonly Field[] {
  switch (content.kind) {
    case 'checkpoint': {
      const { isShutdown, redo, timelineAfter, timelineBefore, fullPageWrites } = content
      const { nextXid, nextOid, time, isFirst } = content
      const timelines = [timelineAfter, timelineBefore]
      const next = [String(nextXid), nextOid]
      const [shutdown, writes] = [Number(isShutdown), Number(fullPageWrites)]
      return [shutdown, String(redo), ...timelines, writes, ...next, String(time), Number(isFirst)]
    }
    case 'backup-end':
      return [String(content.startLsn)]
    case 'parameters': {
      const { walLevel, maxConnections, maxWorkerProcesses, maxWalSenders } = content
      const { maxPreparedTransactions, maxLocksPerTransaction } = content
      const limits = [maxConnections, maxWorkerProcesses, maxWalSenders]
      const more = [maxPreparedTransactions, maxLocksPerTransaction]
      const flags = [Number(content.walLogHints), Number(content.trackCommitTimestamp)]
      return [walLevel, ...limits, ...more, ...flags]
    }
    case 'full-page-writes':
      return [Number(content.on)]
    case 'end-of-recovery':
      return [content.timelineAfter, content.timelineBefore, String(content.time)]
    case 'overwritten':
      return [String(content.overwrittenLsn), String(content.time)]
    case 'tablespace-created':
      return [content.oid, content.path]
    case 'tablespace-dropped':
      return [content.oid]
    case 'database-created': {
      const { database, tablespace, strategy, source } = content
      return [database, tablespace, strategy, source?.database ?? 0, source?.tablespace ?? 0]
    }
    case 'database-dropped':
      return [content.database, content.tablespaces]
    case 'map-changed':
      return [content.tablespace, content.database]
    default:
      return []
  }
}

/** Takes values in their order; RangeError for one that is not of its kind. */
class Values {
  readonly #values: readonly unknown[]
  #at = 0

  constructor(values: readonly unknown[]) {
    this.#values = values
  }

  number(): number {
    const value = this.#values[this.#at++]
    if (typeof value !== 'number') throw new RangeError('number')
    return value
  }

  /** Is there one more value? */
  isMore(): boolean {
    return this.#at < this.#values.length
  }

  flag(): boolean {
    return this.number() !== 0
  }

  text(): string {
    const value = this.#values[this.#at++]
    if (typeof value !== 'string') throw new RangeError('text')
    return value
  }

  bigint(): bigint {
    return BigInt(this.text())
  }

  numbers(): number[] {
    const value = this.#values[this.#at++]
    if (!Array.isArray(value) || value.some((one) => typeof one !== 'number')) {
      throw new RangeError('numbers')
    }
    return value as number[]
  }

  node(): RelationNode {
    const [tablespace = 0, database = 0, number = 0] = this.numbers()
    return { tablespace, database, number }
  }
}

function contentOf(kind: string, values: Values): OtherContent | undefined {
  switch (kind) {
    case 'storage-created':
      return { kind, node: values.node(), isUnlogged: values.isMore() }
    case 'storage-truncated':
      return { kind, node: values.node(), blocks: values.number() }
    case 'relation-truncated':
      return { kind, database: values.number(), relationOids: values.numbers() }
    case 'prepared':
      return { kind, database: values.number(), time: values.bigint() }
    case 'assigned':
      return { kind, subxids: values.numbers() }
    case 'restore-point': {
      const time = values.bigint()
      return { kind, time, name: values.text() }
    }
    case 'running':
      return { kind, nextXid: values.number(), oldestXid: values.number() }
    case 'relation-named': {
      const [node, oid, schemaOid] = [values.node(), values.number(), values.number()]
      return { kind, node, oid, schemaOid, name: values.text(), relationKind: values.text() }
    }
    case 'schema-named':
      return { kind, database: values.number(), oid: values.number(), name: values.text() }
    default:
      return clusterContentOf(kind, values)
  }
}

function clusterContentOf(kind: string, values: Values): OtherContent | undefined {
  switch (kind) {
    case 'checkpoint':
      return checkpointOf(values)
    case 'backup-end':
      return { kind, startLsn: lsn(values.bigint()) }
    case 'parameters':
      return parametersOf(values)
    case 'full-page-writes':
      return { kind, on: values.flag() }
    case 'end-of-recovery': {
      const timelineAfter = values.number()
      return { kind, timelineAfter, timelineBefore: values.number(), time: values.bigint() }
    }
    case 'overwritten':
      return { kind, overwrittenLsn: lsn(values.bigint()), time: values.bigint() }
    case 'switch':
      return { kind }
    case 'tablespace-created':
      return { kind, oid: values.number(), path: values.text() }
    case 'tablespace-dropped':
      return { kind, oid: values.number() }
    case 'database-created':
      return databaseOf(values)
    case 'database-dropped':
      return { kind, database: values.number(), tablespaces: values.numbers() }
    case 'map-changed':
      return { kind, tablespace: values.number(), database: values.number() }
    default:
      return undefined
  }
}

function checkpointOf(values: Values): OtherContent {
  const [isShutdown, redo] = [values.flag(), lsn(values.bigint())]
  const [timelineAfter, timelineBefore] = [values.number(), values.number()]
  const [fullPageWrites, nextXid] = [values.flag(), values.bigint()]
  const [nextOid, time, isFirst] = [values.number(), values.bigint(), values.flag()]
  const timelines = { timelineAfter, timelineBefore }
  const next = { nextXid, nextOid, time, isFirst }
  return { kind: 'checkpoint', isShutdown, redo, ...timelines, fullPageWrites, ...next }
}

function parametersOf(values: Values): OtherContent {
  return {
    kind: 'parameters',
    walLevel: values.text() as WalLevel,
    maxConnections: values.number(),
    maxWorkerProcesses: values.number(),
    maxWalSenders: values.number(),
    maxPreparedTransactions: values.number(),
    maxLocksPerTransaction: values.number(),
    walLogHints: values.flag(),
    trackCommitTimestamp: values.flag(),
  }
}

function databaseOf(values: Values): OtherContent {
  const [database, tablespace] = [values.number(), values.number()]
  const strategy = values.text() === 'file-copy' ? 'file-copy' : 'wal-log'
  const from = { database: values.number(), tablespace: values.number() }
  const source = strategy === 'file-copy' ? from : undefined
  return { kind: 'database-created', database, tablespace, strategy, source }
}
