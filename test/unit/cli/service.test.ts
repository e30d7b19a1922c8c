import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { MachineFacts } from '../../../src/cli/service/checks.ts'
import { examine } from '../../../src/cli/service/checks.ts'
import { launchdState, systemdState } from '../../../src/cli/service/commands.ts'
import { UNIT, launchDaemon, systemdUnit } from '../../../src/cli/service/units.ts'

const spec = {
  argv: [
    '/opt/node 20/bin/node',
    '/opt/mctl/mctl.js',
    'agent',
    '--name',
    'a"b',
    '--data-dir',
    '/Users/ann/100% <mine> & $HOME',
  ],
  env: { MCTL_HOME: '/Users/ann/Library/Application Support/mctl' },
  logFile: '/Library/Logs/mctl/agent.log',
}

describe('the agent as a service', () => {
  it('is a LaunchDaemon that a plist parser reads back as it was meant', () => {
    const { text, path } = launchDaemon(spec)
    const program = 'import json,plistlib,sys; print(json.dumps(plistlib.loads(sys.stdin.buffer.read())))'
    const plist = JSON.parse(execFileSync('python3', ['-c', program], { input: text, encoding: 'utf8' })) as object
    expect(path).toBe('/Library/LaunchDaemons/dev.mctl.agent.plist')
    expect(plist).toMatchObject({
      Label: 'dev.mctl.agent',
      ProgramArguments: spec.argv,
      EnvironmentVariables: spec.env,
      RunAtLoad: true,
      KeepAlive: { SuccessfulExit: false },
      // Without it launchd kills the shards with the agent.
      AbandonProcessGroup: true,
    })
  })

  it('is a unit that systemd takes without a word', ({ skip }) => {
    const dir = mkdtempSync(join(tmpdir(), 'mctl-unit-'))
    try {
      const file = join(dir, UNIT)
      // The verifier wants a program that is there.
      writeFileSync(file, systemdUnit({ ...spec, argv: [process.execPath, ...spec.argv.slice(1)] }).text)
      const said = execFileSync('systemd-analyze', ['verify', '--man=no', file], { encoding: 'utf8', stdio: 'pipe' })
      expect(said).toBe('')
      expect(readFileSync(file, 'utf8')).toContain('KillMode=process')
      expect(readFileSync(file, 'utf8')).toContain('"/Users/ann/100%% <mine> & $$HOME"')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') skip('no systemd-analyze on this machine')
      throw error
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  })

  it('tells its state from what real Macs print', () => {
    const states = recorded('launchctl-print').map(([name, text]) => [name.slice(0, 1), launchdState(text)])
    expect(states).toEqual([
      ['1', { running: false, pid: undefined, why: 'It exited with 0' }],
      ['2', { running: true, pid: '893' }],
      ['3', { running: false, pid: undefined, why: 'It never ran' }],
    ])
  })

  it('tells its state from what launchctl and systemctl say', () => {
    expect(launchdState('\tstate = running\n\tpid = 412\n\tlast exit code = 0\n')).toEqual({
      running: true,
      pid: '412',
    })
    expect(launchdState('\tstate = not running\n\tlast exit code = 78: EX_CONFIG\n')).toEqual({
      running: false,
      pid: undefined,
      why: 'It exited with 78: EX_CONFIG',
    })
    expect(systemdState('ActiveState=active\nMainPID=7\nResult=success\n')).toEqual({ running: true, pid: '7' })
    expect(systemdState('ActiveState=failed\nMainPID=0\nResult=exit-code\n')).toMatchObject({
      running: false,
      pid: undefined,
    })
  })
})

const good: MachineFacts = {
  platform: 'darwin',
  arch: 'arm64',
  osVersion: '15.7.4',
  memoryBytes: 16 * 2 ** 30,
  freeDiskBytes: 100 * 2 ** 30,
  modelsDir: '/models',
  pmset: 'AC Power:\n sleep                0\n autorestart          1\n',
  isRoot: true,
  engine: { python: '/e/bin/python' },
  server: { address: '10.0.0.5:6480' },
  joined: { node: 'mini-2', untilMs: 90 * 86_400_000, authorityUntilMs: 3650 * 86_400_000 },
  nowMs: 0,
}
const states = (facts: Partial<MachineFacts>) =>
  examine({ ...good, ...facts })
    .filter(({ state }) => state !== 'OK')
    .map(({ name, state, found, remedy }) => [name, state, found, remedy?.slice(0, 20)])

describe('the doctor', () => {
  it('finds nothing to say of a Mac that is fit', () => {
    expect(states({})).toEqual([])
  })

  it('names what is wrong, with a remedy for each', () => {
    expect(states({ osVersion: '13.6', arch: 'x64' })).toEqual([
      ['macOS', 'Fail', '13.6', 'mlx needs macOS 14 o'],
      ['chip', 'Fail', 'x64', 'mlx runs on Apple si'],
    ])
    expect(states({ isRoot: false, joined: undefined, freeDiskBytes: 2 ** 30 }).map(([name]) => name)).toEqual([
      'disk',
      'local network',
      'membership',
    ])
    expect(
      states({
        joined: { node: 'mini-2', untilMs: -1, authorityUntilMs: 1 },
        server: { address: 'a:1', problem: 'no answer' },
      }),
    ).toEqual([
      ['membership', 'Fail', 'the certificate of node mini-2 is over', 'mctl node reset mini'],
      ['server', 'Fail', 'a:1: no answer', 'is it running, and i'],
    ])
    // Its neighbour knows it without: there is nothing to join.
    expect(states({ joined: undefined, server: { address: '127.0.0.1:6480' } })).toEqual([])
    const DAY_MS = 86_400_000
    expect(states({ joined: { node: 'mini-2', untilMs: DAY_MS, authorityUntilMs: 364 * DAY_MS } })).toEqual([
      [
        'membership',
        'Warn',
        "node mini-2; the cluster's authority ends in 364 days, and every certificate with it",
        'on the control plane',
      ],
    ])
  })

  it.each(recorded('pmset-g'))('reads the sleep setting of a real Mac: %s', (name, pmset) => {
    const expected = name.startsWith('1-') ? [] : [['sleep', 'Warn', 'after 1 min', 'sudo pmset -a sleep ']]
    expect(states({ pmset }).filter(([check]) => check === 'sleep')).toEqual(expected)
  })
})

/** Outputs that were recorded on real Macs (test/fixtures/macos). */
function recorded(command: string): readonly (readonly [string, string])[] {
  const dir = join(import.meta.dirname, '../../fixtures/macos', command)
  return readdirSync(dir).map((name) => [name, readFileSync(join(dir, name), 'utf8')])
}
