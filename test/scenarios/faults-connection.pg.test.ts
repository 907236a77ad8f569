/** A connection that fails: what is wrong, and no word of a password. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { failureOf } from '../harness/tidemark.ts'
import { type FaultCluster, startFaultCluster } from './faults-cluster.ts'

let cluster: FaultCluster
let configuration = ''

before(async () => {
  cluster = await startFaultCluster()
  const { server } = cluster
  configuration = readFileSync(cluster.config, 'utf8')
  await server.sql(`ALTER ROLE postgres PASSWORD 'right'`)
  const rules = 'local postgres postgres scram-sha-256\nlocal all all trust\n'
  writeFileSync(join(server.dataDirectory, 'pg_hba.conf'), rules)
  await server.restart()
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

const CASES: Record<string, [from: string, to: string, code: RegExp, text: RegExp]> = {
  'wrong password': ['user=postgres', 'user=postgres&password=s3same', /TM1102/, /postgres/],
  'no password': ['user=postgres', 'user=postgres', /TM1102/, /password/],
  'wrong port': ['port=5499', 'port=5498', /TM1101/, /5498/],
  'missing database': ['///postgres', '///nothere', /TM110\d/, /nothere/],
  'missing role': ['user=postgres', 'user=nobody_here', /TM110\d/, /nobody_here/],
}

for (const [name, [from, to, code, text]] of Object.entries(CASES)) {
  test(name, async () => {
    assert.ok(configuration.includes(from))
    writeFileSync(cluster.config, configuration.replace(from, to))
    const backup = await cluster.run('--json', 'backup')
    assert.notEqual(backup.status, 0)
    const failure = failureOf(backup)
    assert.match(failure.code, code, backup.stdout)
    assert.match(`${failure.message} ${failure.because}`, text)
    assert.ok(failure.fix)
    assert.doesNotMatch(backup.stdout + backup.stderr, /s3same/)
    const doctor = await cluster.run('doctor', '--no-proof')
    assert.equal(doctor.status, 3, doctor.stdout + doctor.stderr)
    assert.match(doctor.stdout, code)
    assert.doesNotMatch(doctor.stdout + doctor.stderr, /s3same/)
  })
}

test('the right password', async () => {
  const to = 'user=postgres&password=right'
  writeFileSync(cluster.config, configuration.replace('user=postgres', to))
  await cluster.ok('backup')
  await cluster.ok('doctor')
})
