import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startPostgres } from '../../test/harness/postgres-server.ts'
import { openServerSession } from '../postgres/server-session.ts'
import { findRelationName, parseRelationNames } from '../repository/relation-names.ts'
import { NameReader } from './relation-names.ts'

test('a role that may have two connections at once gets all names', async () => {
  await using server = await startPostgres()
  for (const name of ['a', 'b', 'c']) await server.sql(`CREATE DATABASE ${name}`)
  await server.sql('CREATE ROLE narrow LOGIN CONNECTION LIMIT 2')
  const connection = server.url().replace('user=postgres', 'user=narrow')
  const applicationName = 'tidemark test'
  const session = await openServerSession({ connection, applicationName, forceVersion: true })
  try {
    const { raw, unknown } = await new NameReader(session, connection).read()
    assert.deepEqual(unknown, [])
    const names = parseRelationNames(raw).map(({ name }) => name)
    assert.deepEqual(names.toSorted(), ['a', 'b', 'c', 'postgres', 'template1'])
  } finally {
    await session.close()
  }
})

test('names of all databases, in whatever portions they are read', async () => {
  await using server = await startPostgres()
  await server.sql('CREATE DATABASE "sh""op"')
  await server.sql('CREATE TABLE "od""d, [table]" (id int)')
  const [row] = await server.sql<{ node: number }>(
    `SELECT pg_relation_filenode('"od""d, [table]"') AS node`,
  )
  const connection = server.url()
  const applicationName = 'tidemark test'
  const session = await openServerSession({ connection, applicationName, forceVersion: true })
  try {
    const raws: Buffer[] = []
    for (const portion of [7, 100_000]) {
      const { raw, unknown } = await new NameReader(session, connection, portion).read()
      assert.deepEqual(unknown, [])
      raws.push(raw)
    }
    const [raw] = raws as [Buffer]
    assert.deepEqual(raws[1], raw)
    const names = parseRelationNames(raw)
    assert.equal(JSON.stringify(names), raw.toString())
    assert.ok(names.some(({ name }) => name === 'sh"op'))
    assert.ok(names.every(({ relations }) => relations.length > 50))
    assert.match(findRelationName(names, 0, row?.node ?? 0) ?? '', /\.public\.od"d, \[table\]$/)
  } finally {
    await session.close()
  }
})
