import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatArchiveCommand, plainFormOf } from './archive-command.ts'
import { doesNothing, planArchiving, type ServerSetting } from './archiving-settings.ts'

const COMMAND = '/opt/tidemark/bin/tidemark --config /t.yaml wal push --cluster main "%p"'

function setting(name: string, value: string, more: Partial<ServerSetting> = {}): ServerSetting {
  const context = ['wal_level', 'archive_mode'].includes(name) ? 'postmaster' : 'sighup'
  const rest = { configured: undefined, source: 'default', pendingRestart: false }
  return { name, value, context, ...rest, ...more }
}

test('a default server: three changes, one of them by a restart', () => {
  const plan = planArchiving(
    [
      setting('wal_level', 'replica'),
      setting('archive_mode', 'off'),
      setting('archive_library', ''),
      setting('archive_command', '(disabled)'),
      setting('archive_timeout', '0'),
    ],
    COMMAND,
  )
  assert.deepEqual(
    plan.map(({ name, needsRestart, obstacle }) => [name, needsRestart, obstacle]),
    [
      ['archive_mode', true, undefined],
      ['archive_command', false, undefined],
      ['archive_timeout', false, undefined],
    ],
  )
  assert.equal(plan[1]?.statement, `ALTER SYSTEM SET archive_command = '${COMMAND}'`)
})

test('what waits for a restart already is not planned again', () => {
  const plan = planArchiving(
    [
      setting('archive_mode', 'off', { configured: 'on', pendingRestart: true }),
      setting('archive_command', '(disabled)', { configured: COMMAND }),
      setting('archive_timeout', '0', { configured: '60' }),
    ],
    COMMAND,
  )
  assert.deepEqual(plan, [])
})

test("another tool's archiving is left to a person", () => {
  const plan = planArchiving([setting('archive_command', 'pgbackrest archive-push %p')], COMMAND)
  assert.match(plan[0]?.obstacle ?? '', /pgbackrest archive-push %p/)
  const library = planArchiving([setting('archive_library', 'basic_archive')], COMMAND)
  assert.match(library[0]?.obstacle ?? '', /a library archives/)
})

test('what the command line of the server says cannot be overridden', () => {
  const given = setting('archive_mode', 'off', { source: 'command line', configured: 'on' })
  assert.match(planArchiving([given], COMMAND)[0]?.obstacle ?? '', /command line/)
})

test('commands that archive nothing', () => {
  for (const command of ['', '/bin/true', 'true', 'exit 0', ':', '(disabled)', '/usr/bin/true ']) {
    assert.equal(doesNothing(command), true, command)
  }
  for (const command of ['cp %p /x', 'true && cp %p /x', 'false || cp %p /x']) {
    assert.equal(doesNothing(command), false, command)
  }
})

test('the command survives a shell, PostgreSQL and SQL', () => {
  const options = { program: "/it's/tidemark", configuration: '/a b/100%.yaml', cluster: 'main' }
  assert.equal(
    formatArchiveCommand(options),
    `[ tidemark.acks/%f -ef postmaster.pid ] || ` +
      `'/it'\\''s/tidemark' --config '/a b/100%%.yaml' wal push --ahead --cluster main "%p"`,
  )
  assert.equal(
    plainFormOf(formatArchiveCommand(options)),
    `'/it'\\''s/tidemark' --config '/a b/100%%.yaml' wal push --cluster main "%p"`,
  )
})
