import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { PlainEnd } from './plain-end.ts'

const COMPLETE = '--\n-- PostgreSQL database dump complete\n--\n\n'
const CLUSTER = '--\n-- PostgreSQL database cluster dump complete\n--\n\n'

function finish(text: string, tool: 'pg_dump' | 'pg_dumpall' = 'pg_dump', pieceBytes = 7): void {
  const end = new PlainEnd()
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    end.push(bytes.subarray(at, at + pieceBytes))
  }
  end.finish(tool)
}

test('the last comment, whatever the pieces, with and without a key', () => {
  const rows = 'COPY t FROM stdin;\n1\n\\.\n'.repeat(100)
  for (const pieceBytes of [1, 7, 511, 512, 100_000]) {
    finish(rows + COMPLETE, 'pg_dump', pieceBytes)
    finish(`${rows}${COMPLETE}\\unrestrict ${'k'.repeat(63)}\n\n`, 'pg_dump', pieceBytes)
    finish(`${rows}\\unrestrict k\n\n${CLUSTER}`, 'pg_dumpall', pieceBytes)
  }
})

test('a text that goes on behind the comment, or stops within it, is not whole', () => {
  for (const text of [
    '',
    COMPLETE.slice(0, -3),
    COMPLETE.slice(0, -4),
    `${COMPLETE}COPY t FROM stdin;\n`,
    `${COMPLETE}1\n\\.\n`,
    `${COMPLETE}--\n-- Name: t\n`,
    `${COMPLETE}\\restrict k\n`,
    CLUSTER,
    `${COMPLETE}${'x'.repeat(600)}`,
  ]) {
    assert.throws(
      () => finish(text),
      (error) => isFailure(error, 'TM2005'),
      text,
    )
  }
  assert.throws(() => finish(COMPLETE, 'pg_dumpall'))
})
