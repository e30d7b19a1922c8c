/** `mctl agent install`: the engine comes along, a service that runs is started anew, and what people read when that does not work. */
import { describe, expect, test } from 'vitest'
import { thisMachine } from '../../../src/bin/machine.ts'
import type { Cli } from '../../../src/cli/context.ts'
import { runCommand } from '../../../src/cli/program.ts'
import type { MachineFacts } from '../../../src/cli/service/checks.ts'
import type { Machine } from '../../../src/cli/service/machine.ts'
import { VirtualClock } from '../../support/virtualclock.ts'

const facts: MachineFacts = {
  platform: 'linux',
  arch: 'x64',
  memoryBytes: 2 ** 35,
  freeDiskBytes: 2 ** 40,
  modelsDir: '/h/models',
  isRoot: true,
  engine: { missing: 'no environment in /h/engines' },
  server: { address: '10.0.0.5:6480' },
  nowMs: 0,
}

interface Wish {
  readonly exitOfEngine?: number
  readonly platform?: Machine['platform']
  /** Exit codes of what is run, in turn; then 0. */
  readonly codes?: readonly number[]
}

async function install(
  engine: MachineFacts['engine'],
  { exitOfEngine = 0, platform = 'linux', codes = [] }: Wish = {},
) {
  const done: string[] = []
  const exits = [...codes]
  const clock = new VirtualClock()
  const said = { out: '', err: '' }
  const did = (what: string) => Promise.resolve(void done.push(what))
  const machine: Machine = {
    platform,
    isRoot: true,
    program: ['node', 'mctl.js'],
    agentLog: '/log',
    agentPlace: () => Promise.resolve({ name: 'mini-2', home: '/h', dataDir: '/h/agent', modelsDir: '/h/models' }),
    facts: () => Promise.resolve({ ...facts, engine }),
    installEngine: ({ home }) => did(`engine in ${home}`).then(() => exitOfEngine),
    run: (argv) => did(argv.join(' ')).then(() => ({ code: exits.shift() ?? 0, output: 'said so' })),
    exists: () => false,
    write: (path) => did(`write ${path}`),
    remove: () => Promise.resolve(),
  }
  const cli: Partial<Record<keyof Cli, unknown>> = {
    terminal: { out: (text: string) => (said.out += text), err: (text: string) => (said.err += text) },
    env: { MCTL_TOKEN: 'K10', MCTL_CONFIG: '/nowhere/config.yaml' },
    signal: new AbortController().signal,
    version: '0.1.0',
    clock,
    machine: () => Promise.resolve(machine),
    starters: { join: () => did('join') },
  }
  const words = ['agent', 'install', '--server', '10.0.0.5:6480', '--name', 'mini-2']
  let exitCode: number | undefined
  const ended = runCommand(cli as Cli, words).then((code) => (exitCode = code))
  // The first one also loads its modules, which no virtual time waits for.
  while (exitCode === undefined) await clock.advance(500)
  await ended
  return { ...said, exitCode, done }
}

const service = [
  'join',
  'write /etc/systemd/system/mctl-agent.service',
  'systemctl daemon-reload',
  'systemctl enable mctl-agent.service',
  'systemctl restart mctl-agent.service',
]

test('a Mac without the engine gets it before it joins', async () => {
  const { err, exitCode, done } = await install(facts.engine)
  expect([exitCode, done]).toEqual([0, ['engine in /h', ...service]])
  expect(err).toMatch(/^engine mlx is not on this machine yet: installing it into \/h \(some minutes\)\n\/etc/)
})

test('where it cannot be had the Mac joins all the same, and people read how to get it later', async () => {
  const { err, exitCode, done } = await install(facts.engine, { exitOfEngine: 3 })
  expect([exitCode, done]).toEqual([0, ['engine in /h', ...service]])
  expect(err).toContain(
    'engine mlx was not installed (exit code 3): the node joins without it. Later: npm run setup, in the checkout of mctl on this machine; the agent finds it at its next start\n',
  )
})

test('what is there is left as it is', async () => {
  expect((await install({ python: '/h/python' })).done).toEqual(service)
})

test('this very machine asks the setup of its checkout, which leaves alone what is there', async () => {
  const machine = thisMachine(process.env)
  const place = await machine.agentPlace({})
  expect(await machine.installEngine(place)).toBe(0)
  expect((await machine.facts(place, '127.0.0.1:1')).engine).toEqual({ python: expect.anything() as unknown })
})

describe('on a Mac', () => {
  const bootout = 'launchctl bootout system/dev.mctl.agent'
  const print = 'launchctl print system/dev.mctl.agent'
  const plist = '/Library/LaunchDaemons/dev.mctl.agent.plist'
  const bootstrap = `launchctl bootstrap system ${plist}`
  const again = (codes: readonly number[]) => install({ python: '/h/python' }, { platform: 'darwin', codes })

  test('the first service is loaded at once', async () => {
    expect((await again([3])).done).toEqual(['join', `write ${plist}`, bootout, bootstrap])
  })

  test('one that runs already ends first, and is waited for', async () => {
    const { done, exitCode } = await again([0, 0, 0, 113])
    expect([exitCode, done]).toEqual([0, ['join', `write ${plist}`, bootout, print, print, print, bootstrap]])
  })

  test('one that does not end is no success', async () => {
    const { done, err, exitCode } = await again([])
    expect([exitCode, done.at(-1)]).toEqual([1, print])
    expect(err).toContain('error: start the service: the old one has not ended after 30 s\n')
  })
})
