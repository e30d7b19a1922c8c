/** What people read of addresses of Thunderbolt links, on a Mac that is a folder (support/fakemac.ts). */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { reportSetting, undoThunderbolt } from '../../../agent/thunderbolt/command.ts'
import { setThunderbolt } from '../../../agent/thunderbolt/configure.ts'
import type { NodeCable } from '../../../src/api/node.ts'
import type { Cli, Starters } from '../../../src/cli/context.ts'
import { cableText } from '../../../src/cli/describe/node.ts'
import { runCommand } from '../../../src/cli/program.ts'
import type { Machine } from '../../../src/cli/service/machine.ts'
import { systemClock, systemRandom } from '../../../src/lib/clock.ts'
import { FakeMac } from '../../support/fakemac.ts'

const cable: NodeCable = {
  peer: 'mini-2',
  domainUuid: 'A2',
  peerDomainUuid: 'B2',
  address: '10.217.3.1/30',
  peerAddress: '10.217.3.2/30',
}

let mac: FakeMac
let cables: readonly NodeCable[]
/** Own address on the way to the server. */
let own: string
beforeEach(() => {
  mac = new FakeMac({ 2: { own: 'A2', peer: 'B2' } })
  cables = [cable]
  own = '192.168.2.46'
})
afterEach(() => mac.remove())

const written = new Map<string, string>()
const machine = (platform: 'darwin' | 'linux'): Machine => ({
  platform,
  isRoot: true,
  program: ['/usr/local/bin/node', '/opt/mctl/mctl.js'],
  agentLog: '/Library/Logs/mctl/agent.log',
  agentPlace: ({ name = 'mini-1' }) => Promise.resolve({ name, home: '/h', dataDir: mac.dir, modelsDir: '/h/models' }),
  facts: (_, address) =>
    Promise.resolve({
      ...{ platform, arch: 'arm64', osVersion: '15.7.4', memoryBytes: 2 ** 34, freeDiskBytes: 2 ** 40, isRoot: true },
      ...{ modelsDir: '/h/models', engine: { python: '/h/python' }, server: { address }, nowMs: 0 },
      pmset: 'AC Power:\n sleep                0\n autorestart          1\n',
    }),
  installEngine: () => Promise.resolve(0),
  // What was stopped is gone at once: `print` does not find it.
  run: (argv) => Promise.resolve({ code: argv.includes('print') ? 113 : 0, output: '' }),
  exists: (path) => path.endsWith('.plist') || mac.doors.record.read() !== undefined,
  write: (path, text) => Promise.resolve(void written.set(path, text)),
  remove: () => Promise.resolve(),
})

async function run(argv: readonly string[], platform: 'darwin' | 'linux' = 'darwin') {
  const said = { out: '', err: '' }
  const started: unknown[] = []
  const starters: Pick<Starters, 'agent' | 'join' | 'thunderbolt'> = {
    agent: (flags) => Promise.resolve(started.push(flags.configureThunderbolt) - 1),
    join: () => Promise.resolve(),
    thunderbolt: ({ verb, dryRun }) =>
      verb === 'Undo' ? undoThunderbolt(mac.doors, dryRun) : reportSetting(mac.doors, cables, own),
  }
  const cli: Pick<Cli, 'terminal' | 'env' | 'cwd' | 'clock' | 'random' | 'signal' | 'version' | 'machine'> = {
    terminal: {
      out: (text) => void (said.out += text),
      err: (text) => void (said.err += text),
      isTty: false,
      readStdin: () => Promise.resolve(new Uint8Array()),
      question: () => Promise.resolve(undefined),
      edit: () => Promise.resolve(),
    },
    env: { MCTL_CONFIG: '/nowhere/config.yaml' },
    cwd: mac.dir,
    clock: systemClock,
    random: systemRandom,
    signal: new AbortController().signal,
    version: '0.1.0',
    machine: () => Promise.resolve(machine(platform)),
  }
  const exitCode = await runCommand({ ...cli, starters } as unknown as Cli, argv)
  return { ...said, exitCode, started }
}

test('describe node says where a cable leads and what it is to have', () => {
  const port = { interface: 'en2', type: 'Thunderbolt', addresses: [], domainUuid: 'A2', peerDomainUuid: 'B2' } as const
  expect(cableText({ ...port, bridge: 'bridge0' }, [cable])).toBe('to mini-2, in bridge0, is to have 10.217.3.1/30')
  expect(cableText({ ...port, addresses: ['10.217.3.1/30'] }, [cable])).toBe('to mini-2')
  expect(cableText({ ...port, peerDomainUuid: 'C9' }, [cable])).toBe('to C9')
})

const SET = `ifconfig bridge0 deletem en2                                 # the cable of Thunderbolt 2 to mini-2 gets addresses of its own
ifconfig bridge0 down                                        # none of its members leads anywhere
ifconfig en2 inet 10.217.3.1 netmask 255.255.255.252 alias   # Thunderbolt 2 leads to mini-2 (10.217.3.2)
`

describe('mctl agent', () => {
  test('--configure-thunderbolt --dry-run prints the commands with their reasons, and changes nothing', async () => {
    const { out, err, exitCode } = await run(['agent', '--configure-thunderbolt', '--dry-run'])
    expect(out.replace(/ +#/g, ' #')).toBe(SET.replace(/ +#/g, ' #'))
    expect([err, exitCode, mac.changes()]).toEqual(['Nothing was changed (dry run).\n', 0, []])
    await setThunderbolt(mac.doors, { wish: { kind: 'Set', cables }, ownAddress: own })
    expect(await run(['agent', '--configure-thunderbolt', '--dry-run'])).toMatchObject({
      out: '',
      err: 'Set already: 10.217.3.1/30 towards mini-2.\n',
    })
  })
  test('what cannot be set is said with its reason, and exit code 1', async () => {
    cables = [{ ...cable, address: '192.168.2.45/30' }]
    const { out, err, exitCode } = await run(['agent', '--configure-thunderbolt', '--dry-run'])
    expect([out, exitCode]).toEqual(['', 1])
    expect(err).toMatch(/^Thunderbolt 2 \(en2\) does not get 192\.168\.2\.45\/30: en0 has 192\.168\.2\.46\/24 there\./)
  })
  test('--undo-thunderbolt gives back what was taken', async () => {
    expect(await run(['agent', '--undo-thunderbolt'])).toMatchObject({
      err: 'There is nothing to undo.\n',
      exitCode: 0,
    })
    await setThunderbolt(mac.doors, { wish: { kind: 'Set', cables }, ownAddress: own })
    expect(await run(['agent', '--undo-thunderbolt', '--dry-run'])).toMatchObject({
      err: 'Nothing was changed (dry run).\n',
    })
    const { out, err } = await run(['agent', '--undo-thunderbolt'])
    expect(out.split('\n').map((line) => line.split('#')[0]?.trim())).toEqual([
      'ifconfig en2 inet 10.217.3.1 -alias',
      'ifconfig bridge0 addm en2',
      'ifconfig bridge0 up',
      '',
    ])
    expect(err).toBe('Undone: the network is as it was.\n')
  })
  test('without --dry-run it runs the agent, which then keeps the addresses', async () => {
    expect((await run(['agent', '--configure-thunderbolt'])).started).toEqual([true])
    expect((await run(['agent'])).started).toEqual([undefined])
  })
  test.each([
    [['--configure-thunderbolt', '--undo-thunderbolt'], 'give one'],
    [['--dry-run'], 'goes with --configure-thunderbolt or --undo-thunderbolt'],
  ])('%j is a mistake', async (flags, message) => {
    const { err, exitCode } = await run(['agent', ...flags])
    expect([err, exitCode]).toEqual([expect.stringContaining(message), 1])
  })
  test('install keeps the wish in the service, and uninstall says what stays', async () => {
    const installed = async (...more: string[]) => {
      written.clear()
      await run(['agent', 'install', '--server', '10.0.0.5:6480', '--name', 'mini-1', ...more])
      return written.get('/Library/LaunchDaemons/dev.mctl.agent.plist') ?? ''
    }
    expect(await installed('--configure-thunderbolt')).toContain('<string>--configure-thunderbolt</string>')
    expect(await installed()).toContain('<string>mini-1</string>')
    expect(await installed()).not.toContain('thunderbolt')
    const linux = await run(['agent', 'install', '--configure-thunderbolt'], 'linux')
    expect([linux.exitCode, linux.err]).toEqual([1, expect.stringContaining('that is for macOS; nothing was changed')])
    await setThunderbolt(mac.doors, { wish: { kind: 'Set', cables }, ownAddress: own })
    expect((await run(['agent', 'uninstall'])).err).toContain('`sudo -E mctl agent --undo-thunderbolt`')
  })
})
