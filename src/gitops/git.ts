/**
 * The system's git as a child with an environment made from nothing: no configuration but ours, no hooks, no prompts, no
 * protocol but https, ssh and file. Credentials come by files that the environment names, never in arguments.
 */
import { spawn } from 'node:child_process'
import type { Clock } from '../lib/clock.ts'
import { OpError } from '../lib/errors.ts'
import { killGroup } from '../lib/process.ts'

export interface GitCall {
  readonly args: readonly string[]
  /** Beside what every git gets (see `gitEnvironment`). */
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
  readonly maxOutputBytes?: number
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface GitRan {
  /** -1: ended by a signal. */
  readonly code: number
  readonly stdout: Buffer
  readonly stderr: string
}

/** Runs git to its end. OpError Unavailable when there is no git, Timeout, Cancelled, Invalid when it says too much. */
export type RunGit = (call: GitCall) => Promise<GitRan>

export interface GitDoors {
  readonly clock: Clock
  /** PATH, and what else of the server's own environment git may see: proxies and certificates. */
  readonly env: Readonly<Record<string, string>>
  /** An empty folder: what git would read from a home is not there. */
  readonly home: string
}

const MAX_OUTPUT_BYTES = 64_000_000
const TIMEOUT_MS = 60_000
const MAX_ERROR_CHARS = 600

const settings = [
  'core.hooksPath=/dev/null',
  'core.fsmonitor=false',
  'core.symlinks=false',
  'core.attributesFile=/dev/null',
  'credential.helper=',
  // A redirect could carry credentials to another host.
  'http.followRedirects=false',
  'http.lowSpeedLimit=1000',
  'http.lowSpeedTime=30',
  // What runs in the background would outlive the call and hold locks.
  'gc.autoDetach=false',
  'maintenance.autoDetach=false',
].flatMap((setting) => ['-c', setting])

const SSH = 'ssh -F /dev/null -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes'

/** Everything that a git of ours sees of the world, but for what a call adds. */
export const gitEnvironment = ({ env, home }: Pick<GitDoors, 'env' | 'home'>): Record<string, string> => ({
  ...env,
  HOME: home,
  LC_ALL: 'C',
  TZ: 'UTC',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_SYSTEM: '/dev/null',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_ATTR_NOSYSTEM: '1',
  GIT_TERMINAL_PROMPT: '0',
  GIT_ALLOW_PROTOCOL: 'https:ssh:file',
  GIT_NO_REPLACE_OBJECTS: '1',
  GIT_LITERAL_PATHSPECS: '1',
  GIT_OPTIONAL_LOCKS: '0',
  GIT_SSH_COMMAND: SSH,
  GIT_SSH_VARIANT: 'ssh',
})

/** `ssh` with the key and known hosts of these files. */
export const sshCommand = (keyFile: string, knownHostsFile: string): string =>
  `${SSH} -o UserKnownHostsFile=${quoted(knownHostsFile)} -o GlobalKnownHostsFile=/dev/null -i ${quoted(keyFile)}`

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

export const gitArguments = (call: GitCall): readonly string[] => [...settings, ...call.args]

/** git as a child of its own process group: on a timeout its own children (ssh, remote helpers) go with it. */
export const spawnGit =
  (doors: GitDoors): RunGit =>
  (call) =>
    new Promise((resolve, reject) => {
      if (call.signal?.aborted === true)
        return reject(new OpError('Cancelled', 'git was not started: the server stops'))
      const child = spawn('git', gitArguments(call), {
        env: { ...gitEnvironment(doors), ...call.env },
        cwd: doors.home,
        stdio: ['pipe', 'pipe', 'pipe'],
        detached: true,
      })
      const parts: Buffer[] = []
      let bytes = 0
      let stderr = ''
      let failure: OpError | undefined
      const end = (error: OpError) => {
        failure ??= error
        if (child.pid !== undefined) killGroup(child.pid)
      }
      const timeoutMs = call.timeoutMs ?? TIMEOUT_MS
      const timer = doors.clock.after(timeoutMs, () =>
        end(new OpError('Timeout', `git took longer than ${Math.round(timeoutMs / 1000)} s and was stopped`)),
      )
      const onAbort = () => end(new OpError('Cancelled', 'git was stopped: the server stops'))
      call.signal?.addEventListener('abort', onAbort, { once: true })
      child.stdout.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > (call.maxOutputBytes ?? MAX_OUTPUT_BYTES)) end(new OpError('Invalid', 'git said more than is read'))
        else parts.push(chunk)
      })
      child.stderr.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-64_000)))
      // A git that ended early does not read its input to the end.
      child.stdin.on('error', () => {})
      child.stdin.end(call.input ?? '')
      child.on('error', (cause) => {
        failure ??= new OpError('Unavailable', 'git cannot be run on the machine of the server: is it installed?', {
          cause,
        })
        finish(-1)
      })
      child.on('close', (code) => finish(code ?? -1))
      const finish = (code: number) => {
        timer.cancel()
        call.signal?.removeEventListener('abort', onAbort)
        if (failure !== undefined) reject(failure)
        else resolve({ code, stdout: Buffer.concat(parts), stderr })
      }
    })

/** stdout of a git that must succeed; OpError Unavailable with what git said. */
export async function mustRun(run: RunGit, doing: string, call: GitCall): Promise<Buffer> {
  const { code, stdout, stderr } = await run(call)
  if (code !== 0) throw new OpError('Unavailable', `${doing}: ${saidBy(stderr, code)}`)
  return stdout
}

/** What git said, in one line and without what stands before an @ in addresses. */
export function saidBy(stderr: string, code: number): string {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '' && !/^(hint|warning|remote: *$)/.test(line))
  const text = withoutPasswords(lines.join('; ').replaceAll(/fatal: |error: /g, ''))
  return text === '' ? `git exited with ${code}` : text.slice(0, MAX_ERROR_CHARS)
}

export const withoutPasswords = (text: string): string => text.replaceAll(/\/\/[^/\s@]*:[^/\s@]*@/g, '//…@')
