import multiprocessing
import sqlite3

NAME = "shop.db"


def add_many(first):
    with sqlite3.connect(NAME, timeout=30) as db:
        for i in range(50):
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO item(n) VALUES (?)", (first + i,))
            db.commit()


def run(mode):
    db = sqlite3.connect(NAME, isolation_level=None)
    print(db.execute("PRAGMA journal_mode=" + mode).fetchone()[0])
    db.execute("CREATE TABLE item(n INTEGER)")
    db.execute("BEGIN")
    db.executemany("INSERT INTO item VALUES (?)", [(i,) for i in range(100)])
    db.execute("ROLLBACK")
    print(db.execute("SELECT count(*) FROM item").fetchone()[0])
    other = sqlite3.connect(NAME, timeout=0, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    try:
        other.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        print(error)
    db.execute("COMMIT")
    other.close()
    writers = [multiprocessing.Process(target=add_many, args=(i * 50,))
               for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    print(db.execute("SELECT count(*), sum(n) FROM item").fetchone())
    print(db.execute("PRAGMA integrity_check").fetchone()[0])
    db.execute("DROP TABLE item")
    db.execute("VACUUM")
    db.close()


run("delete")
run("wal")
with sqlite3.connect(NAME) as db:
    db.execute("CREATE TABLE final(word TEXT)")
    db.execute("INSERT INTO final VALUES ('kept')")
