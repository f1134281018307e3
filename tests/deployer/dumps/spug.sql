-- MySQL dump 10.13  Distrib 8.0.35, for Linux (x86_64)
--
-- Host: 127.0.0.1    Database: spug
-- ------------------------------------------------------
-- Server version	8.0.35

/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!50503 SET NAMES utf8mb4 */;
/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;

--
-- Table structure for table `apps`
--

DROP TABLE IF EXISTS `apps`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
CREATE TABLE `apps` (
  `id` int NOT NULL AUTO_INCREMENT,
  `name` varchar(50) NOT NULL,
  `key` varchar(50) NOT NULL,
  `desc` varchar(255) DEFAULT NULL COMMENT 'free, (text); of `people`',
  `rel_apps` longtext,
  `rel_services` longtext,
  `created_at` varchar(20) NOT NULL,
  `created_by_id` int NOT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `key` (`key`),
  CONSTRAINT `apps_created_by` FOREIGN KEY (`created_by_id`) REFERENCES `users` (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=4 DEFAULT CHARSET=utf8mb4;
/*!40101 SET character_set_client = @saved_cs_client */;

LOCK TABLES `apps` WRITE;
/*!40000 ALTER TABLE `apps` DISABLE KEYS */;
INSERT INTO `apps` VALUES (1,'商城后台','mall','the shop\'s orders; and "more"','[2]','[1]','2023-04-01 10:00:00',1),(2,'支付','pay',NULL,NULL,NULL,'2023-04-01 10:05:00',1),(3,'夜间报表','report',': # - {yaml} minds\nthis','[]','[]','2023-05-02 08:00:00',1);
/*!40000 ALTER TABLE `apps` ENABLE KEYS */;
UNLOCK TABLES;

CREATE TABLE `environments` (
  `id` int NOT NULL AUTO_INCREMENT,
  `name` varchar(50) NOT NULL,
  `key` varchar(50) NOT NULL,
  `desc` varchar(255) DEFAULT NULL,
  `sort_id` int NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB;
INSERT INTO `environments` VALUES (1,'测试环境','test',NULL,1),(2,'生产环境','prod',NULL,2),(3,'客户现场','onsite','at customers',3);

CREATE TABLE `hosts` (
  `id` int NOT NULL AUTO_INCREMENT,
  `name` varchar(100) NOT NULL,
  `hostname` varchar(50) NOT NULL,
  `port` int DEFAULT NULL,
  `username` varchar(50) NOT NULL,
  `pkey` longtext,
  `desc` varchar(255) DEFAULT NULL,
  `is_verified` tinyint(1) NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB;
INSERT INTO `hosts` VALUES (1,'web-1','10.20.0.11',22,'deploy',NULL,NULL,1),(2,'web-2','10.20.0.12',2222,'deploy',NULL,NULL,1),(3,'web-1','10.20.9.11',22,'root','-----BEGIN OPENSSH PRIVATE KEY-----\nspug-own-key-material\n-----END OPENSSH PRIVATE KEY-----\n','test machine',1),(4,'odd','not a host!',22,'deploy',NULL,NULL,0);

CREATE TABLE `host_groups` (`id` int NOT NULL, `name` varchar(50) NOT NULL, `parent_id` int NOT NULL, `sort_id` int NOT NULL, PRIMARY KEY (`id`));
INSERT INTO `host_groups` VALUES (1,'Default',0,1),(2,'商城',1,2),(3,'mixed',1,3);
CREATE TABLE `host_groups_hosts` (`id` int NOT NULL, `group_id` int NOT NULL, `host_id` int NOT NULL, PRIMARY KEY (`id`));
INSERT INTO `host_groups_hosts` VALUES (1,2,1),(2,2,2),(3,3,1),(4,3,3);

CREATE TABLE `services` (`id` int NOT NULL, `name` varchar(50) NOT NULL, `key` varchar(50) NOT NULL, `desc` varchar(255));
INSERT INTO `services` VALUES (1,'MySQL','mysql',NULL);
CREATE TABLE `configs` (
  `id` int NOT NULL, `type` varchar(5) NOT NULL, `o_id` int NOT NULL, `key` varchar(50) NOT NULL, `value` longtext, `desc` varchar(255), `is_public` tinyint(1) NOT NULL, `env_id` int NOT NULL
);
INSERT INTO `configs` VALUES (1,'app',1,'LOG_LEVEL','info',NULL,1,2),(2,'app',1,'DB_PASSWORD','hunter2-of-spug',NULL,0,2),(3,'app',2,'URL','https://pay.example.com',NULL,1,2),(4,'src',1,'host','db.example.com',NULL,1,2),(5,'src',1,'password','hunter3-of-spug',NULL,1,2),(6,'app',1,'no-name','x',NULL,1,2);

CREATE TABLE `deploys` (
  `id` int NOT NULL, `host_ids` longtext NOT NULL, `extend` varchar(2) NOT NULL, `is_parallel` tinyint(1) NOT NULL, `is_audit` tinyint(1) NOT NULL, `rst_notify` varchar(255), `app_id` int NOT NULL, `env_id` int NOT NULL
);
INSERT INTO `deploys` VALUES (1,'[1, 2]','1',0,1,'{\"mode\": \"0\"}',1,2),(2,'[3]','1',1,0,NULL,1,1),(3,'[1]','2',1,0,NULL,3,2),(4,'[]','1',1,0,NULL,2,3);
CREATE TABLE `deploy_extend1` (
  `deploy_id` int NOT NULL, `git_repo` varchar(255) NOT NULL, `dst_dir` varchar(255) NOT NULL, `dst_repo` varchar(255) NOT NULL, `versions` int NOT NULL, `filter_rule` longtext NOT NULL, `hook_pre_server` longtext, `hook_post_server` longtext, `hook_pre_host` longtext, `hook_post_host` longtext
);
INSERT INTO `deploy_extend1` VALUES (1,'https://bot:ghp_token-of-spug@git.example.com/shop/mall.git','/srv/mall','/data/spug',10,'{\"type\": \"exclude\", \"data\": \"node_modules\"}','git submodule update','npm ci\r\nnpm run build','./migrate.sh \"$SPUG_VERSION\"','systemctl restart mall && echo \'ok\''),(2,'git@git.example.com:shop/mall.git','/srv/mall','/data/spug',5,'{\"type\": \"contain\", \"data\": \"\"}',NULL,'npm ci','','systemctl restart mall'),(4,'http://git.example.com/pay.git','/srv/pay','relative/path',0,'{}',NULL,NULL,NULL,NULL);
CREATE TABLE `deploy_extend2` (`deploy_id` int NOT NULL, `server_actions` longtext NOT NULL, `host_actions` longtext NOT NULL, `require_upload` tinyint(1) NOT NULL);
INSERT INTO `deploy_extend2` VALUES (3,'[{\"title\": \"fetch\", \"data\": \"curl -fsS https://ci.example.com/report.tgz -o report.tgz\"}]','[{\"type\": \"transfer\", \"title\": \"upload\", \"src\": \"/tmp/report.tgz\", \"dst\": \"/srv/report\"}, {\"title\": \"restart\", \"data\": \"supervisorctl restart report\"}, {\"title\": \"say so\", \"data\": \"echo restarted\"}]',0);

CREATE TABLE `exec_templates` (`id` int NOT NULL, `name` varchar(50), `type` varchar(50), `body` longtext, `interpreter` varchar(20), `host_ids` longtext, `desc` varchar(255), `parameters` longtext);
INSERT INTO `exec_templates` VALUES (1,'disk','ops','df -h | grep -v tmpfs','sh','[]','free space','[]'),(2,'py','ops','print(1)','python','[]',NULL,'[]');
CREATE TABLE `tasks` (`id` int NOT NULL, `name` varchar(50), `command` longtext);
INSERT INTO `tasks` VALUES (1,'nightly clean','rm -rf /tmp/old');
CREATE TABLE `settings` (`id` int NOT NULL, `key` varchar(50), `value` longtext);
INSERT INTO `settings` VALUES (1,'private_key','-----BEGIN RSA PRIVATE KEY-----\nglobal-key-material\n-----END RSA PRIVATE KEY-----'),(2,'mail_service','{\"password\": \"hunter4-of-spug\"}');
CREATE TABLE `users` (`id` int NOT NULL, `username` varchar(50), `password_hash` varchar(100));
INSERT INTO `users` VALUES (1,'admin','pbkdf2_sha256$hash-of-spug');
CREATE TABLE `deploy_requests` (`id` int NOT NULL, `name` varchar(50), `spug_blob` blob);
INSERT INTO `deploy_requests` VALUES (1,'release 1',_binary 'a\0b'),(2,'release 2',0x6162);
CREATE TABLE `django_migrations` (`id` int NOT NULL, `app` varchar(255));
INSERT INTO `django_migrations` VALUES (1,'host');
DELIMITER ;;
CREATE TRIGGER `t` BEFORE INSERT ON `hosts` FOR EACH ROW BEGIN INSERT INTO `hosts` VALUES (9,'evil','evil.example.com',22,'root',NULL,NULL,1); END ;;
DELIMITER ;

/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;

-- Dump completed on 2024-06-01 12:00:00
