/**
 * The records that are neither rows nor ends of transactions, as values. They are few, so they
 * may cost an object each.
 */
import type { RecordParts } from '../../postgres/wal-blocks.ts'
import { parseWalEvent, type WalEvent } from '../../postgres/wal-event.ts'
import type { WalRecord } from '../../postgres/wal-reader.ts'
import {
  RM_RELATION_MAP,
  RM_STANDBY,
  RM_STORAGE,
  RM_TRANSACTION,
} from '../../postgres/wal-record.ts'
import {
  parseAssignment,
  parseRelationMapRecord,
  parseRunningTransactions,
  parseStorageRecord,
} from '../../postgres/wal-storage.ts'
import type { OtherContent, RelationNode } from '../folded-event.ts'

/** `parts` has just read `record`. */
export function otherContentOf(record: WalRecord, parts: RecordParts): OtherContent | undefined {
  switch (record.resourceManager) {
    case RM_STORAGE:
      return storageContent(parts)
    case RM_RELATION_MAP:
      return mapContent(parts)
    case RM_STANDBY: {
      const running = parseRunningTransactions(parts)
      if (running === undefined) return undefined
      const { nextXid, oldestRunningXid } = running
      return { kind: 'running', nextXid, oldestXid: oldestRunningXid }
    }
    case RM_TRANSACTION: {
      const assignment = parseAssignment(parts)
      if (assignment === undefined) return preparedContent(record)
      return { kind: 'assigned', subxids: assignment.subxids }
    }
    default: {
      const parsed = parseWalEvent(record)
      return parsed.kind === 'event' ? eventContent(parsed.event, record, parts) : undefined
    }
  }
}

function storageContent(parts: RecordParts): OtherContent | undefined {
  const change = parseStorageRecord(parts)
  if (change === undefined) return undefined
  const { tablespace, database, relation: number } = change
  const node: RelationNode = { tablespace, database, number }
  if (change.kind === 'storage-truncate') {
    return { kind: 'storage-truncated', node, blocks: change.blocks }
  }
  // The main fork of an unlogged relation is not logged, its init fork is.
  if (change.fork !== 'main' && change.fork !== 'init') return undefined
  return { kind: 'storage-created', node, isUnlogged: change.fork === 'init' }
}

function mapContent(parts: RecordParts): OtherContent | undefined {
  const update = parseRelationMapRecord(parts)
  if (update === undefined) return undefined
  return { kind: 'map-changed', tablespace: update.tablespace, database: update.database }
}

function preparedContent(record: WalRecord): OtherContent | undefined {
  const parsed = parseWalEvent(record)
  if (parsed.kind !== 'event' || parsed.event.kind !== 'prepare') return undefined
  return { kind: 'prepared', database: parsed.event.database, time: parsed.event.time }
}

/** struct CheckPoint: nextOid. */
const NEXT_OID_AT = 32

function eventContent(
  event: WalEvent,
  record: WalRecord,
  parts: RecordParts,
): OtherContent | undefined {
  switch (event.kind) {
    case 'checkpoint': {
      const { isShutdown, redo, timelineAfter, timelineBefore, fullPageWrites, nextXid } = event
      const isFirst = record.previousLsn === 0n
      const state = { redo, timelineAfter, timelineBefore, fullPageWrites, nextXid, isFirst }
      const nextOid = parts.mainU32(NEXT_OID_AT)
      return { kind: 'checkpoint', isShutdown, ...state, nextOid, time: event.time }
    }
    case 'restore-point':
      return { kind: 'restore-point', name: event.name, time: event.time }
    case 'end-of-recovery': {
      const { timelineAfter, timelineBefore, time } = event
      return { kind: 'end-of-recovery', timelineAfter, timelineBefore, time }
    }
    case 'parameter-change': {
      const { kind: _, lsn: _lsn, endLsn: _end, timeline: _timeline, ...parameters } = event
      return { kind: 'parameters', ...parameters }
    }
    case 'full-page-writes':
      return { kind: 'full-page-writes', on: event.on }
    case 'backup-end':
      return { kind: 'backup-end', startLsn: event.startLsn }
    case 'switch':
      return { kind: 'switch' }
    case 'overwritten-record': {
      const { overwrittenLsn, time } = event
      return { kind: 'overwritten', overwrittenLsn, time }
    }
    default:
      return directoryContent(event)
  }
}

function directoryContent(event: WalEvent): OtherContent | undefined {
  switch (event.kind) {
    case 'tablespace-create':
      return { kind: 'tablespace-created', oid: event.oid, path: event.path }
    case 'tablespace-drop':
      return { kind: 'tablespace-dropped', oid: event.oid }
    case 'database-create': {
      const { database, tablespace, strategy, source } = event
      return { kind: 'database-created', database, tablespace, strategy, source }
    }
    case 'database-drop':
      return {
        kind: 'database-dropped',
        database: event.database,
        tablespaces: event.tablespaces,
      }
    default:
      return undefined
  }
}
