/**
 * A bare repository of our own per Sync, into which the followed ref is fetched. What is applied is read out of its
 * commits, object by object; there is no checkout, so nothing that a tree names is ever created on the disk. The last
 * applied commit is held by a ref of its own: it can be read when the source is gone.
 */
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { GitSource } from '../api/sync.ts'
import { refOfGit } from '../api/sync.ts'
import { normalPath } from '../api/synccheck.ts'
import { OpError } from '../lib/errors.ts'
import type { GitCall, RunGit } from './git.ts'
import { mustRun, saidBy } from './git.ts'
import type { SourceFile, SourceTree, TreeEntry } from './tree.ts'
import { chooseEntries, digestOfFiles, MAX_TREE_BYTES, MAX_TREE_ENTRIES, refusedEntry } from './tree.ts'

const HEAD_REF = 'refs/mctl/head'
const APPLIED_REF = 'refs/mctl/applied'
const MAX_LISTING_BYTES = 32_000_000

export interface FetchHow {
  /** Credentials, as an environment for git. */
  readonly env: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

interface GitEntry extends TreeEntry {
  readonly oid: string
}

export class Mirror {
  readonly #dir: string
  readonly #run: RunGit
  readonly #signal: AbortSignal

  /** `dir` is made when needed. Only one process, and one call at a time, may use it. */
  constructor(dir: string, run: RunGit, signal: AbortSignal) {
    this.#dir = dir
    this.#run = run
    this.#signal = signal
  }

  /** Fetches the followed ref and answers the commit that it stands for. OpError Unavailable with what git said. */
  async fetch(source: GitSource, how: FetchHow): Promise<string> {
    await this.#open()
    const ref = refOfGit(source)
    const full = source.tag === undefined ? `refs/heads/${ref}` : `refs/tags/${ref}`
    const flags = ['--quiet', '--no-tags', '--no-write-fetch-head', '--force', '--no-recurse-submodules']
    const args = ['fetch', ...flags, '--', source.url, `+${full}:${HEAD_REF}`]
    const { code, stderr } = await this.#git({ args, env: how.env, timeoutMs: how.timeoutMs })
    if (code !== 0) throw new OpError('Unavailable', fetchText(source, saidBy(stderr, code)))
    return this.#text('resolve the fetched ref', ['rev-parse', '--verify', '--quiet', `${HEAD_REF}^{commit}`])
  }

  /** Keeps the commit readable, whatever becomes of the branch. */
  async keep(commit: string): Promise<void> {
    if (await this.has(commit)) await this.#text('keep the applied commit', ['update-ref', APPLIED_REF, commit])
  }

  async has(commit: string): Promise<boolean> {
    if (!existsSync(join(this.#dir, 'HEAD'))) return false
    const { code } = await this.#git({ args: ['cat-file', '-e', `${commit}^{commit}`] })
    return code === 0
  }

  /** Whether `next` has `old` in its history. False when `old` is not known. */
  async isDescendant(old: string, next: string): Promise<boolean> {
    const { code } = await this.#git({ args: ['merge-base', '--is-ancestor', old, next] })
    return code === 0
  }

  /** What is wrong with the signature of the commit (of the tag, where a tag is followed); undefined when it is good. */
  async signatureFault(source: GitSource, commit: string, keys: SignerKeys): Promise<string | undefined> {
    const settings = ['-c', `gpg.ssh.allowedSignersFile=${keys.allowedSignersFile ?? '/dev/null'}`]
    const what = source.tag === undefined ? ['verify-commit', '--raw', commit] : ['verify-tag', '--raw', HEAD_REF]
    const env = { GNUPGHOME: keys.gnupgHome ?? join(this.#dir, 'no-keys') }
    const { code, stderr } = await this.#git({ args: [...settings, ...what], env })
    if (code === 0) return undefined
    const said = stderr.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('[GNUPG:]'))
    return said.length === 0 ? 'it is not signed' : saidBy(said.join('\n'), code)
  }

  /** The manifests of a commit below the source's paths. */
  async read(commit: string, source: GitSource): Promise<SourceTree> {
    const paths = [source.path, ...(source.extraPaths ?? [])].map(normalPath)
    const listed = await Promise.all(paths.map((path) => this.#list(commit, path)))
    const missingPaths = paths.filter((_, index) => listed[index] === undefined)
    const entries = listed.flatMap((list) => list ?? [])
    const about = await this.#about(commit)
    if (entries.length > MAX_TREE_ENTRIES) {
      const causes = [refusedEntry('.', `too many files: ${entries.length}, must be at most ${MAX_TREE_ENTRIES}`)]
      return { revision: commit, digest: digestOfFiles([]), files: [], causes, missingPaths, ...about }
    }
    const { files: chosen, causes } = chooseEntries(entries)
    const files = await this.#contents(chosen)
    return { revision: commit, digest: digestOfFiles(files), files, causes, missingPaths, ...about }
  }

  /** Every name below the path; undefined when it is not there. A file, or a link in place of a folder, is told itself. */
  async #list(commit: string, path: string): Promise<readonly GitEntry[] | undefined> {
    if (path !== '') {
      const out = await this.#out('look for the path', ['ls-tree', '-l', '-z', '--full-tree', commit, '--', path])
      const entry = entriesOf(out)[0]
      if (entry === undefined) return undefined
      if (entry.type !== 'Folder') return [{ ...entry, type: entry.type }]
    }
    const below = path === '' ? [] : ['--', `${path}/`]
    const out = await this.#out('list the commit', ['ls-tree', '-r', '-l', '-z', '--full-tree', commit, ...below])
    return entriesOf(out).flatMap((entry) => (entry.type === 'Folder' ? [] : [{ ...entry, type: entry.type }]))
  }

  async #contents(entries: readonly GitEntry[]): Promise<readonly SourceFile[]> {
    if (entries.length === 0) return []
    const out = await mustRun(this.#git, 'read the commit', {
      args: ['cat-file', '--batch'],
      input: entries.map(({ oid }) => `${oid}\n`).join(''),
      maxOutputBytes: 2 * MAX_TREE_BYTES,
    })
    let at = 0
    return entries.map(({ path, oid, bytes }) => {
      const end = out.indexOf(0x0a, at)
      const header = out.subarray(at, end).toString()
      if (header !== `${oid} blob ${bytes}`)
        throw new OpError('Unavailable', `read the commit: ${path} is not whole in the repository (${header})`)
      at = end + 1 + bytes + 1
      return { path, bytes: out.subarray(end + 1, end + 1 + bytes) }
    })
  }

  async #about(commit: string): Promise<{ author: string; subject: string }> {
    const format = '--format=%an <%ae>%x00%s'
    const out = await this.#text('read the commit', [
      'log',
      '-1',
      '--no-show-signature',
      '--no-mailmap',
      format,
      commit,
    ])
    const [author = '', subject = ''] = out.split('\0')
    return { author: plain(author), subject: plain(subject) }
  }

  async #open(): Promise<void> {
    if (!existsSync(join(this.#dir, 'HEAD'))) {
      mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
      await this.#text('make a repository', ['init', '--bare', '--quiet', '--template=', '.'])
    }
    removeLocks(this.#dir)
  }

  async #text(doing: string, args: readonly string[]): Promise<string> {
    return (await this.#out(doing, args)).toString().trim()
  }

  #out(doing: string, args: readonly string[]): Promise<Buffer> {
    return mustRun(this.#git, doing, { args, maxOutputBytes: MAX_LISTING_BYTES })
  }

  readonly #git: RunGit = (call: GitCall) =>
    this.#run({ ...call, args: ['-C', this.#dir, '--git-dir=.', ...call.args], signal: this.#signal })
}

export interface SignerKeys {
  readonly allowedSignersFile?: string
  readonly gnupgHome?: string
}

/** A git that was killed leaves its locks behind, and nobody else uses the repository. */
function removeLocks(dir: string): void {
  for (const name of readdirSync(dir, { recursive: true, encoding: 'utf8' }))
    if (name.endsWith('.lock') && !name.startsWith('objects')) rmSync(join(dir, name), { force: true })
}

function fetchText(source: GitSource, said: string): string {
  const what = source.tag === undefined ? `branch "${refOfGit(source)}"` : `tag "${source.tag}"`
  if (said.includes("couldn't find remote ref")) return `${source.url} has no ${what}`
  return `fetch ${what} of ${source.url}: ${said}`
}

type ListedEntry = Omit<GitEntry, 'type'> & { readonly type: GitEntry['type'] | 'Folder' }

/** The lines of `ls-tree -z [-l]`: `<mode> <type> <oid> [<size>]\t<path>`. */
function entriesOf(out: Buffer): readonly ListedEntry[] {
  return out
    .toString('utf8')
    .split('\0')
    .flatMap((line) => {
      const tab = line.indexOf('\t')
      if (tab < 0) return []
      const [mode = '', , oid = '', size = '0'] = line.slice(0, tab).split(/ +/)
      return [{ path: line.slice(tab + 1), type: typeOfMode(mode), oid, bytes: Number(size) || 0 }]
    })
}

function typeOfMode(mode: string): ListedEntry['type'] {
  if (mode === '120000') return 'Symlink'
  if (mode === '160000') return 'Submodule'
  if (mode === '040000') return 'Folder'
  return mode.startsWith('100') ? 'File' : 'Other'
}

const MAX_ABOUT_CHARS = 200

/** One line without control characters: it is told in tables and logs. */
const plain = (text: string): string =>
  text
    .replaceAll(/\p{Cc}/gu, ' ')
    .trim()
    .slice(0, MAX_ABOUT_CHARS)
