/**
 * Reads a Sync's source: fetch → resolve → check → read → render. Whatever fails is a value that says why, with the last
 * applied revision beside it where that can still be read: it is what the cluster goes on following.
 */
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { GitSource, SyncSource } from '../api/sync.ts'
import { shortRevision } from '../api/sync.ts'
import type { Clock } from '../lib/clock.ts'
import { isOpError, messageOf } from '../lib/errors.ts'
import { ASKPASS_SCRIPT, credentialEnvironment, secretFile } from './credentials.ts'
import { readDirectory } from './directory.ts'
import type { RunGit } from './git.ts'
import { mustRun, withoutPasswords } from './git.ts'
import type { SignerKeys } from './mirror.ts'
import { Mirror } from './mirror.ts'
import type { Rendered } from './render.ts'
import { render } from './render.ts'

export type ReadFailureReason = 'FetchFailed' | 'ForcePushRefused' | 'SignatureRefused' | 'CredentialsRefused'

export interface ReadFailure {
  readonly reason: ReadFailureReason
  readonly message: string
  /** What was found, where that much is known. */
  readonly revision?: string
}

export interface SourceReading {
  /** The newest revision, sound or with causes; absent when there is a failure. */
  readonly head?: Rendered
  /** The last applied revision, where it is another one and can be read. */
  readonly lastGood?: Rendered
  readonly failure?: ReadFailure
}

export interface ReadRequest {
  readonly name: string
  readonly uid: string
  readonly source: SyncSource
  /** Absent when nothing was applied from this very source. */
  readonly lastApplied?: string
}

export interface SourceReader {
  /** Never throws but on bugs and on `signal`. */
  read(request: ReadRequest, signal: AbortSignal): Promise<SourceReading>
  /** The Sync with this uid is gone: so is what was kept of its source. */
  forget(uid: string): void
}

export interface ReaderDoors {
  /** The server's data folder: `gitops/` below it is ours, `credentials/` people fill. */
  readonly dataDir: string
  readonly clock: Clock
  readonly git: RunGit
}

export const gitopsFolder = (dataDir: string): string => join(dataDir, 'gitops')
export const credentialsFolder = (dataDir: string): string => join(dataDir, 'credentials')

/** An empty home for git, and the script that answers its questions. Made again at each start. */
export function prepareFolder(dataDir: string): { readonly home: string; readonly askpass: string } {
  const folder = gitopsFolder(dataDir)
  const home = join(folder, 'home')
  rmSync(home, { recursive: true, force: true })
  mkdirSync(home, { recursive: true, mode: 0o700 })
  const askpass = join(folder, 'askpass')
  writeFileSync(askpass, ASKPASS_SCRIPT, { mode: 0o700 })
  chmodSync(askpass, 0o700)
  return { home, askpass }
}

export function createReader(doors: ReaderDoors): SourceReader {
  const folderOf = (uid: string) => join(gitopsFolder(doors.dataDir), uid)
  const commits = new Map<string, Commits>()
  return {
    async read(request, signal) {
      const { git, directory = '' } = request.source
      if (git !== undefined) {
        const known = commits.get(request.uid) ?? new Commits()
        commits.set(request.uid, known)
        return readGit(doors, { folder: folderOf(request.uid), known }, { ...request, git }, signal)
      }
      try {
        return { head: await render(await readDirectory(directory, doors.clock, signal), request.name) }
      } catch (error) {
        if (!isOpError(error)) throw error
        return { failure: { reason: 'FetchFailed', message: messageOf(error) } }
      }
    },
    forget(uid) {
      commits.delete(uid)
      rmSync(folderOf(uid), { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

/** The commits of one Sync that were read last: a look that finds nothing new is one fetch. */
class Commits {
  readonly #rendered = new Map<string, Rendered>()
  /** The commit that is held by a ref. */
  kept: string | undefined

  async of(mirror: Mirror, commit: string, { git, name }: GitRequest): Promise<Rendered> {
    const key = JSON.stringify([commit, git.path, git.extraPaths])
    const rendered = this.#rendered.get(key) ?? (await render(await mirror.read(commit, git), name))
    this.#rendered.delete(key)
    this.#rendered.set(key, rendered)
    const [oldest] = this.#rendered.keys()
    if (this.#rendered.size > MAX_COMMITS && oldest !== undefined) this.#rendered.delete(oldest)
    return rendered
  }
}

/** The newest one, and the last applied one. */
const MAX_COMMITS = 2

type GitRequest = ReadRequest & { readonly git: GitSource }

async function readGit(
  doors: ReaderDoors,
  { folder, known }: { readonly folder: string; readonly known: Commits },
  request: GitRequest,
  signal: AbortSignal,
): Promise<SourceReading> {
  const { lastApplied } = request
  const mirror = new Mirror(join(folder, 'repo.git'), doors.git, signal)
  const found = await orFailure(() => fetchHead(doors, mirror, request, known))
  const failure = typeof found === 'string' ? await refusal(doors, mirror, request, { folder, commit: found }) : found
  const lastGood = async () => {
    if (lastApplied === undefined || !(await mirror.has(lastApplied))) return {}
    const rendered = await orFailure(() => known.of(mirror, lastApplied, request))
    return isFailure(rendered) ? {} : { lastGood: rendered }
  }
  if (failure !== undefined || typeof found !== 'string') return { failure, ...(await lastGood()) } as SourceReading
  const head = await orFailure(() => known.of(mirror, found, request))
  if (isFailure(head)) return { failure: { ...head, revision: found }, ...(await lastGood()) }
  return found === lastApplied ? { head } : { head, ...(await lastGood()) }
}

async function fetchHead(
  doors: ReaderDoors,
  mirror: Mirror,
  { git, lastApplied }: GitRequest,
  known: Commits,
): Promise<string> {
  const askpass = join(gitopsFolder(doors.dataDir), 'askpass')
  const env = credentialEnvironment(credentialsFolder(doors.dataDir), git.credentials, git.url, askpass)
  if (lastApplied !== undefined && known.kept !== lastApplied) await mirror.keep(lastApplied)
  known.kept = lastApplied
  return mirror.fetch(git, { env, timeoutMs: git.timeoutSeconds * 1000 })
}

/** Why a commit that was fetched may not be followed. */
async function refusal(
  doors: ReaderDoors,
  mirror: Mirror,
  { git, lastApplied }: GitRequest,
  { folder, commit }: { readonly folder: string; readonly commit: string },
): Promise<ReadFailure | undefined> {
  const isRewritten =
    lastApplied !== undefined &&
    lastApplied !== commit &&
    git.tag === undefined &&
    !git.allowForcePush &&
    !(await mirror.isDescendant(lastApplied, commit))
  if (isRewritten)
    return {
      reason: 'ForcePushRefused',
      revision: commit,
      message:
        `commit ${short(commit)} does not have the applied ${short(lastApplied)} in its history: the branch was rewritten. ` +
        'Restore the branch, or follow it all the same with spec.source.git.allowForcePush: true',
    }
  if (git.verify === undefined) return undefined
  const { signers } = git.verify
  const keys = await orFailure(() => keysOf(doors, signers, folder))
  if (isFailure(keys)) return { ...keys, revision: commit }
  const fault = await mirror.signatureFault(git, commit, keys)
  if (fault === undefined) return undefined
  const what = git.tag === undefined ? `commit ${short(commit)}` : `tag ${git.tag}`
  return {
    reason: 'SignatureRefused',
    revision: commit,
    message: `${what} has no good signature of a key in credentials "${signers}": ${fault}`,
  }
}

/** OpenPGP keys are put into a keyring of their own, so that nobody else's keys count. */
async function keysOf(doors: ReaderDoors, signers: string, folder: string): Promise<SignerKeys> {
  const credentials = credentialsFolder(doors.dataDir)
  const allowedSignersFile = secretFile(credentials, signers, 'allowed-signers')
  const keyring = secretFile(credentials, signers, 'keyring.asc')
  if (keyring === undefined) return allowedSignersFile === undefined ? {} : { allowedSignersFile }
  const gnupgHome = join(folder, 'gnupg')
  rmSync(gnupgHome, { recursive: true, force: true })
  mkdirSync(gnupgHome, { recursive: true, mode: 0o700 })
  // git runs gpg for us, with the environment that every git of ours gets: an alias is how it runs another program.
  const importing = `alias.mctl-import=!gpg --batch --quiet --no-autostart --import`
  await mustRun(doors.git, 'read keyring.asc', {
    args: ['-c', importing, 'mctl-import', keyring],
    env: { GNUPGHOME: gnupgHome },
  })
  return { gnupgHome, ...(allowedSignersFile === undefined ? {} : { allowedSignersFile }) }
}

async function orFailure<T>(run: () => Promise<T>): Promise<T | ReadFailure> {
  try {
    return await run()
  } catch (error) {
    if (!isOpError(error) || error.code === 'Cancelled') throw error
    const reason = error.message.startsWith('credentials ') ? 'CredentialsRefused' : 'FetchFailed'
    return { reason, message: withoutPasswords(messageOf(error)) }
  }
}

const isFailure = (value: unknown): value is ReadFailure =>
  typeof value === 'object' && value !== null && 'reason' in value && 'message' in value

const short = (revision: string): string => shortRevision(revision) ?? ''
